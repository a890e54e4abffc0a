import { parse } from 'csv-parse/sync'

/** What a peer's output says otherwise than ours, column by column. Nothing if both are the same bytes. */
export async function differences(peer: string, ourUrl: string, peerUrl: string): Promise<string[]> {
  const [ours, theirs] = await Promise.all([text(ourUrl), text(peerUrl)])
  if (ours === theirs) return []
  const [header = [], ...expected] = parse(ours) as string[][]
  const [, ...found] = parse(theirs) as string[][]
  if (expected.length !== found.length) throw new Error(`${peer}: ${found.length} rows`)
  const differing = header.flatMap((name, column) => {
    const row = expected.findIndex((cells, index) => cells[column] !== found[index]?.[column])
    if (row === -1) return []
    const [our, their] = [expected[row]?.[column], found[row]?.[column]].map((cell) => JSON.stringify(cell))
    return [`${name} ${their} for ${our}`]
  })
  return [`${peer}: ${differing.length === 0 ? 'the same cells, quoted otherwise' : differing.join(', ')}`]
}

async function text(url: string): Promise<string> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url}: ${response.status}`)
  return response.text()
}
