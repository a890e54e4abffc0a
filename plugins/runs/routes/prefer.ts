import type { FastifyRequest } from 'fastify'

/** What `Prefer` asks for: https://www.rfc-editor.org/rfc/rfc7240 */
export interface Preferences {
  respondAsync: boolean
  /** Seconds. */
  wait: number | undefined
}

export function preferencesOf({ headers }: FastifyRequest): Preferences {
  const { prefer = [] } = headers
  const preferences: Preferences = { respondAsync: false, wait: undefined }
  for (const part of [prefer].flat().join(',').split(',')) {
    const [preference = ''] = part.split(';')
    const [name, value] = preference.split('=').map((text) => text.trim()) as [string, string?]
    if (name.toLowerCase() === 'respond-async') preferences.respondAsync = true
    // Of equal ones the first counts.
    if (name.toLowerCase() === 'wait') preferences.wait ??= secondsOf(value)
  }
  return preferences
}

function secondsOf(text = ''): number | undefined {
  return /^"?\d{1,9}"?$/.test(text) ? Number(text.replaceAll('"', '')) : undefined
}
