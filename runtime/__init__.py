"""The only code that touches the broker, the database, the clock and the environment."""
