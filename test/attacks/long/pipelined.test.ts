import t from 'tap'
import { Victim } from '../attack.ts'
import { type Seen, type Version, Wire } from '../wire.ts'

// Replies to pipelined requests wait for those ahead of them, without a socket.
// On ecf8ce8, 72 of 248 assertions fail: the export behind a slow one is not whole.

const long = `id\n${Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('')}`
const firsts = { '/slow': 'slow', '/slow-export': 'id\n1\n2\n' }

const request = (path: string, version: Version, id: string, headers = '') =>
  `GET ${path} HTTP/${version}\r\nhost: a\r\nx-export: ${id}\r\n${headers}\r\n`

const isShort = ({ end }: Seen) => end === 'reset' || end === 'cut'

t.test('an export behind a slower reply', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  for (const [path, text] of Object.entries(firsts)) {
    const wholes = { '/export': long, '/hooked-export': long, '/slow-export': 'id\n1\n2\n' }
    for (const [second, body] of Object.entries(wholes)) {
      t.test(`${second} behind ${path} is whole`, async (t) => {
        const first = await victim.prepare(path)
        const { id, url } = await victim.prepare(second)
        const wire = new Wire(url).send(request(path, '1.1', first.id) + request(second, '1.1', id))
        const seen = await wire.over(2)
        t.match(seen[0], { body: text, end: 'whole' }, 'the first')
        t.equal(seen[1]?.end, 'whole', 'the end of the second')
        t.equal(seen[1]?.body.length, body.length, 'its length')
        await victim.checkSurvived(t, id, { status: 'complete' })
      })
    }

    t.test(`one behind ${path} that fails early is an error reply`, async (t) => {
      const first = await victim.prepare(path)
      const { id, url } = await victim.prepare('/early')
      const wire = new Wire(url).send(request(path, '1.1', first.id) + request('/early', '1.1', id))
      const seen = await wire.over(2)
      t.match(seen, [
        { body: text, end: 'whole' },
        { status: 500, body: /EARLY/, end: 'whole' }
      ])
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'EARLY' })
    })

    for (const [second, status] of Object.entries({
      '/late': 'source_failed',
      '/limited': 'limit_reached'
    } as const)) {
      t.test(`${second} behind ${path} is a break, after the first`, async (t) => {
        const first = await victim.prepare(path)
        const { id, url } = await victim.prepare(second)
        const wire = new Wire(url).send(request(path, '1.1', first.id) + request(second, '1.1', id))
        const seen = await wire.over(2)
        t.match(seen[0], { body: text, end: 'whole' }, 'the first')
        t.ok(seen[1] === undefined || isShort(seen[1]), `the second: ${seen[1]?.status} ${seen[1]?.end}`)
        await victim.checkSurvived(t, id, { status })
      })
    }

    t.test(`the client of one behind ${path} leaves`, async (t) => {
      const first = await victim.prepare(path)
      const { id, url } = await victim.prepare('/until-left')
      const wire = new Wire(url).send(request(path, '1.1', first.id) + request('/until-left', '1.1', id))
      await victim.said(id, 'running')
      wire.socket.destroy()
      await victim.checkSurvived(t, id, { status: 'client_gone' })
    })
  }

  for (const version of ['1.0', '1.1'] as Version[]) {
    for (const path of ['/plain', '/slow', '/slow-export']) {
      // A body without a length ends an HTTP/1.0 connection.
      if (version === '1.0' && path === '/slow-export') continue
      for (const at of ['at once', 'when the export runs']) {
        t.test(`a half-close ${at} behind ${path}, HTTP/${version}`, async (t) => {
          const first = await victim.prepare(path)
          const { id, url } = await victim.prepare('/short-after-half-close')
          const wire = new Wire(url)
          wire.send(request(path, version, first.id, 'connection: keep-alive\r\n'))
          wire.send(request('/short-after-half-close', version, id))
          if (at === 'at once') wire.socket.end()
          else {
            await victim.said(id, 'running')
            wire.socket.end()
          }
          const seen = await wire.over(2)
          const second = seen[1]
          const isWhole = second?.end === 'whole' && second.body === 'id\n1\n2\n'
          const isRight = isWhole || seen.every(({ end }) => end !== 'whole') || second?.end !== 'whole'
          t.ok(isRight && seen.every(({ end }) => end !== 'none'), JSON.stringify(seen))
          const receipt = await victim.receipt(id, 500)
          if (receipt !== undefined || second !== undefined) {
            await victim.checkSurvived(t, id, { status: isWhole ? 'complete' : 'client_gone' })
          }
        })
      }
    }
  }
})

t.test('an export that a hook reads while it waits for its turn', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  for (const hook of ['pipe', "a tee of 'data'", 'toWeb']) {
    for (const headers of ['', 'connection: close\r\n']) {
      t.test(`${hook}: its late error is a break, after the first; ${headers}`, async (t) => {
        const first = await victim.prepare('/slow')
        const path = `/late?${new URLSearchParams({ hook })}`
        const { id, url } = await victim.prepare(path)
        const wire = new Wire(url).send(request('/slow', '1.1', first.id) + request(path, '1.1', id, headers))
        const seen = await wire.over(2)
        t.match(seen[0], { body: 'slow', end: 'whole' }, 'the first')
        t.ok(seen[1] === undefined || isShort(seen[1]), `the second: ${seen[1]?.status} ${seen[1]?.end}`)
        await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'LATE' })
      })
    }
  }
})

t.test('an export behind one that breaks: its client is not blamed', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  const first = await victim.prepare('/late')
  const { id, url } = await victim.prepare('/export')
  await new Wire(url).send(request('/late', '1.1', first.id) + request('/export', '1.1', id)).over(2)
  await victim.checkSurvived(t, id, undefined)
})

t.test('a server that ends the socket of a pipelined export', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  for (const version of ['1.0', '1.1'] as Version[]) {
    t.test(`HTTP/${version}`, async (t) => {
      const first = await victim.prepare('/plain')
      const { id, url } = await victim.prepare('/ends-its-socket')
      const keep = 'connection: keep-alive\r\n'
      const wire = new Wire(url).send(
        request('/plain', version, first.id, keep) + request('/ends-its-socket', version, id)
      )
      const seen = await wire.over(2)
      t.equal(seen[0]?.end, 'whole', 'the first')
      t.ok(seen[1] === undefined || isShort(seen[1]), `the second: ${seen[1]?.status} ${seen[1]?.end}`)
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'CSV_EXPORT_BODY_DESTROYED' })
    })
  }
})

t.test('a server that destroys the socket of an export behind another', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  for (const version of ['1.0', '1.1'] as Version[]) {
    t.test(`HTTP/${version}`, async (t) => {
      const first = await victim.prepare('/slow-export')
      const { id, url } = await victim.prepare('/destroys-its-socket')
      const wire = new Wire(url).send(
        request('/slow-export', '1.1', first.id) + request('/destroys-its-socket', version, id)
      )
      const seen = await wire.over(2)
      t.equal(seen[0]?.end, 'whole', 'the first')
      t.equal(seen[1]?.end, 'reset', 'the second')
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'CSV_EXPORT_BODY_DESTROYED' })
    })
  }
})

t.test('a server that ends an export before its turn', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  for (const method of ['end', 'destroy']) {
    t.test(`raw.${method}()`, async (t) => {
      const first = await victim.prepare('/slow')
      const { id, url } = await victim.prepare('/ended-before-its-turn')
      const wire = new Wire(url).send(
        request('/slow', '1.1', first.id) + request(`/ended-before-its-turn?method=${method}`, '1.1', id)
      )
      const seen = await wire.over(2)
      t.match(seen, [{ body: 'slow', end: 'whole' }])
      t.equal(seen.length, 1, 'no second reply')
      t.ok(wire.socket.readableEnded, 'the connection is closed')
      await victim.checkSurvived(t, id, undefined)
    })
  }
})

t.test('exports behind each other leave the socket as it was', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/sockets.ts', import.meta.url))
  const { id, url } = await victim.prepare('')
  const exports = Array.from({ length: 3 }, () => request('/slow-export', '1.1', id))
  const seen = await new Wire(url).send(exports.join('') + request('/socket', '1.1', id)).over(4)
  t.match(seen[3], { body: '{"isHeld":false}', end: 'whole' })
})

t.test('a server that allows a half-open connection', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/half-open.ts', import.meta.url))
  for (const version of ['1.0', '1.1'] as Version[]) {
    for (const path of ['/short-after-half-close', '/export']) {
      t.test(`${path} is whole after a half-close, HTTP/${version}`, async (t) => {
        const { id, url } = await victim.prepare(path)
        const wire = new Wire(url).send(request(path, version, id, 'connection: close\r\n'))
        if (path === '/short-after-half-close') await wire.begun()
        wire.socket.end()
        const [seen] = await wire.over()
        const body = path === '/export' ? long : 'id\n1\n2\n'
        t.ok(seen?.end === 'whole' && seen.body === body, `${seen?.end} ${seen?.body.length}`)
        await victim.checkSurvived(t, id, { status: 'complete' })
      })
    }

    t.test(`a client that leaves altogether is still noticed, HTTP/${version}`, async (t) => {
      const { id, url } = await victim.prepare('/until-left')
      const wire = new Wire(url).send(request('/until-left', version, id))
      await victim.said(id, 'running')
      await wire.begun()
      wire.socket.resetAndDestroy()
      await victim.checkSurvived(t, id, { status: 'client_gone' })
    })
  }
})
