import type { FastifyRequest } from 'fastify'

/** What `Prefer` asks for: https://www.rfc-editor.org/rfc/rfc7240 */
export interface Preferences {
  respondAsync: boolean
  /** Seconds. */
  wait: number | undefined
}

// A name, its value, and parameters, of which none is known here. What is quoted may have a comma.
const value = String.raw`(?:"(?:[^"\\]|\\.)*"|[^\s",;]*)`
const preference = new RegExp(String.raw`([^\s=",;]+)(?:\s*=\s*(${value}))?(?:\s*;[^",]*(?:${value})?)*`, 'g')

export function preferencesOf({ headers }: FastifyRequest): Preferences {
  const preferences: Preferences = { respondAsync: false, wait: undefined }
  for (const [, name = '', value] of String(headers.prefer ?? '').matchAll(preference)) {
    if (name.toLowerCase() === 'respond-async') preferences.respondAsync = true
    // Of equal ones the first counts.
    if (name.toLowerCase() === 'wait') preferences.wait ??= secondsOf(value)
  }
  return preferences
}

function secondsOf(text = ''): number | undefined {
  return /^("\d{1,9}"|\d{1,9})$/.test(text) ? Number(text.replaceAll('"', '')) : undefined
}
