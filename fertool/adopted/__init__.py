"""Networks and functions of others: files that compute, architectures by name, and how their classes are matched."""
