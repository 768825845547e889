"""What a Python program reads a Candlewire server with: `from candlewire.client import Client`."""
