"""Pictures from arrays: every function takes arrays and gives a matplotlib figure; nothing here opens artefacts."""
