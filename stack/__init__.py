"""One command: gets and starts the real engines and every room on one machine; the command line."""
