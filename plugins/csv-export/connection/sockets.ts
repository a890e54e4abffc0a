import type { Socket } from 'node:net'

/** The connection of TCP, or a UNIX socket: of TLS, the one below it. */
export function transportBelow(socket: Socket): Socket {
  return (socket as { _parent?: Socket | null })._parent ?? socket
}

/** Milliseconds between two looks. */
const interval = 1_000

/**
 * Milliseconds. A slow client may be honest: its system takes large pieces, seldom, and itself it says something after half of a
 * window. 3 MB at 100 kB/s, with as large a window, are silent for 17 s.
 */
export const patience = 60_000

/** Of connections that were destroyed for it. */
const silences = new WeakMap<Socket, number>()

/** Milliseconds of silence for which a connection has been destroyed. */
export function silenceOf(socket: Socket): number | undefined {
  return silences.get(socket)
}

/**
 * Destroys the connection of an HTTP/2 session whose client has taken and sent nothing for so long: its machine sleeps, say.
 * What would end a stream, or the session, waits behind what the client does not take, for good. A connection of HTTP/1 is
 * reset instead.
 * @param isAwaited whether something waits for the client
 * @param isOver whether nothing will any more
 */
export function destroyIfStuck(
  socket: Socket,
  isAwaited: () => boolean,
  isOver: () => boolean = () => false
): void {
  if (isOver()) return
  let moved = bytesMoved(socket)
  let waited = 0
  const look = () => {
    if (socket.destroyed || isOver()) {
      clearInterval(timer)
      return
    }
    const before = moved
    moved = bytesMoved(socket)
    waited = moved === before && isAwaited() ? waited + interval : 0
    if (waited < patience) return
    silences.set(socket, waited)
    socket.destroy()
  }
  // No listeners: a session may have hundreds of streams that break at a time.
  const timer = setInterval(look, interval).unref()
}

/** Counted of a session that is over, too, though no event tells of what comes then. */
function bytesMoved(socket: Socket): number {
  return socket.bytesRead + bytesTaken(socket)
}

/**
 * What the operating system has taken of `socket.bytesWritten`. Node hands over what all streams have at a time, for which a slow
 * client may need minutes.
 */
export function bytesTaken(socket: Socket): number {
  const { _handle } = transportBelow(socket) as { _handle?: { writeQueueSize?: number } | null }
  return socket.bytesWritten - (_handle?.writeQueueSize ?? 0)
}
