"""The routes of the service, one noun a module."""
