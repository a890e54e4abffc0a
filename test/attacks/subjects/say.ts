import type { Said } from '../attack.ts'

/** Tells the attacker what has happened in the server. */
export function say(said: Said): void {
  process.send?.({ said })
}
