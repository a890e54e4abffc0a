// reply.csv(({ signal }) => fetchRows('https://example.org/cargoes.ndjson', signal))

export async function* fetchRows(url: string, signal: AbortSignal): AsyncGenerator<object> {
  const response = await fetch(url, { signal })
  if (!response.ok || response.body === null) throw new Error(`${url} answered ${response.status}`)
  let rest = ''
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line)
  }
  // One that was cut is no JSON.
  if (rest.trim() !== '') yield JSON.parse(rest)
}
