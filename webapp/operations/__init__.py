"""What operators see and do: figures, actions, and who may."""
