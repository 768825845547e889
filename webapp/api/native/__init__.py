"""/api/v1: our own dialect; errors as RFC 9457 problem+json."""
