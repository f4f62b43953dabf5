"""Things drawn over faces by their landmarks, and the guess what covers a face that shows something of the kind."""
