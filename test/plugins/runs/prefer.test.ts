import type { FastifyRequest } from 'fastify'
import t from 'tap'
import { preferencesOf } from '../../../plugins/runs/routes/prefer.ts'

const read = (prefer: string | undefined) =>
  preferencesOf({ headers: { prefer } } as unknown as FastifyRequest)

const cases: Record<string, [respondAsync: boolean, wait?: number]> = {
  '': [false],
  'respond-async': [true],
  'Respond-Async, WAIT = 30': [true, 30],
  ',, respond-async ,,': [true],
  'respond-async=""; foo="a, b"; c, wait="5"': [true, 5],
  'x="a, respond-async", wait=1, wait=2': [false, 1],
  'x="\\", respond-async"': [false],
  'x="\\\\", respond-async': [true],
  'x=; respond-async': [false],
  'x; wait=5, respond-async': [true],
  // None of these is a preference.
  '"respond-async"': [false],
  ';respond-async': [false],
  'x="respond-async, wait=5': [false],
  'respond-async wait=5': [false],
  'wait=-1, wait=1.5, wait=1e3, wait': [false]
}

t.test('Prefer is read as RFC 7240 has it', async (t) => {
  for (const [header, [respondAsync, wait]] of Object.entries(cases)) {
    t.same(read(header), { respondAsync, wait }, header)
  }
  t.same(read(undefined), { respondAsync: false, wait: undefined })
})

t.test('as much as a header may have is read at once', async (t) => {
  const length = 16_000
  const parts = [' ', '"', ';', 'a', '\\', '"\\', 'a,', 'a="', 'a= ', '\\"']
  for (const header of parts.flatMap((part) =>
    ['', 'a=', 'a="', 'a;'].map((start) => [start, part] as const)
  )) {
    const before = performance.now()
    read(`${header[0]}${header[1].repeat(length / header[1].length)} "x" y`)
    // What takes a time that grows with the square of the length takes about a second.
    t.ok(performance.now() - before < 300, header.join())
  }
})
