"""When is a task recoverable from masked conditionals? Certificates and witnesses."""
