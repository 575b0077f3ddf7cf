"""Stores beyond one folder: sealed files shipped from many vantages to one folder or bucket, which is read as one."""
