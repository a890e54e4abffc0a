"""Prints what is at a URL, with the standard library alone."""

import gzip
import http.client
import sys
import urllib.request

if '--http1.0' in sys.argv:
    http.client.HTTPConnection._http_vsn = 10
    http.client.HTTPConnection._http_vsn_str = 'HTTP/1.0'

request = urllib.request.Request(sys.argv[-1], headers={'Accept-Encoding': 'gzip'})
with urllib.request.urlopen(request) as response:
    gzipped = response.headers['Content-Encoding'] == 'gzip'
    body = gzip.GzipFile(fileobj=response) if gzipped else response
    sys.stdout.buffer.write(body.read())
