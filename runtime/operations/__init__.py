"""What operators may ask for, the audit of it, and what every room does about it."""
