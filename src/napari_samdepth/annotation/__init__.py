"""The annotation as one value: documents, the actions that change them, and their history. Imports core alone."""
