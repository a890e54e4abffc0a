import type { FastifyRequest } from 'fastify'

/** What `Prefer` asks for: https://www.rfc-editor.org/rfc/rfc7240 */
export interface Preferences {
  respondAsync: boolean
  /** Seconds. */
  wait: number | undefined
}

const quoted = String.raw`"(?:[^"\\]|\\.)*"`
/** What stands between commas; what is quoted may have some. */
const elements = new RegExp(`(?:[^",]|${quoted}?)+`, 'g')
/**
 * A name, its value, and parameters, of which none is known here. Of blanks each is looked at once: a header of nothing else
 * would hold up the server.
 */
const preference = new RegExp(String.raw`^\s*([^\s=",;]+)(?:\s*=(?:\s*(${quoted}|[^\s=",;]+))?)?\s*(?:;.*)?$`)

export function preferencesOf({ headers }: FastifyRequest): Preferences {
  const preferences: Preferences = { respondAsync: false, wait: undefined }
  for (const [element] of String(headers.prefer ?? '').matchAll(elements)) {
    const [, name = '', value] = preference.exec(element) ?? []
    if (name.toLowerCase() === 'respond-async') preferences.respondAsync = true
    // Of equal ones the first counts.
    if (name.toLowerCase() === 'wait') preferences.wait ??= secondsOf(value)
  }
  return preferences
}

function secondsOf(text = ''): number | undefined {
  return /^("\d{1,9}"|\d{1,9})$/.test(text) ? Number(text.replaceAll('"', '')) : undefined
}
