"""Prints what is at a URL."""

import sys

import requests

response = requests.get(sys.argv[-1])
response.raise_for_status()
sys.stdout.buffer.write(response.content)
