import type { Socket } from 'node:net'

/** The connection of TCP, or a UNIX socket: of TLS, the one below it. */
export function transportBelow(socket: Socket): Socket {
  return (socket as { _parent?: Socket | null })._parent ?? socket
}
