"""Neural networks behind small protocols; torch is imported only inside the functions that need it."""
