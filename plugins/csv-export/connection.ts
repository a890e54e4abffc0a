import type { ServerResponse } from 'node:http'
import { constants, type Http2ServerResponse } from 'node:http2'

/**
 * Ends a body that is not whole so that the client notices.
 * A plain close is how HTTP/1.0 and a proxy's HTTP/1.0 upstream end a body normally, so the TCP connection is reset;
 * on HTTP/2 the stream alone is, with INTERNAL_ERROR.
 */
export function breakConnection(raw: ServerResponse | Http2ServerResponse): void {
  if ('stream' in raw) {
    raw.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  try {
    raw.socket?.resetAndDestroy()
  } catch {
    // A TLS or UNIX socket cannot be reset: the missing last chunk shows the break.
    raw.destroy()
  }
}
