/** What a client that reads a socket itself has to know of a response. */

const endOfHead = '\r\n\r\n'
export const lastChunk = '\r\n0\r\n\r\n'

/** Of its head and body, where the head tells. */
export function lengthOf(begin: string): number | undefined {
  const body = /^content-length: (\d+)\r$/im.exec(begin)?.[1]
  return body === undefined ? undefined : begin.indexOf(endOfHead) + endOfHead.length + Number(body)
}

/** Whether a response without trailers, read as latin1, is all there. */
export function isWhole(response: string): boolean {
  if (!response.includes(endOfHead)) return false
  const length = lengthOf(response)
  return length === undefined ? response.endsWith(lastChunk) : response.length === length
}
