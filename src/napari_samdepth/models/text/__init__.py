"""Words to boxes and masks."""
