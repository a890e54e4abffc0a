import { once } from 'node:events'
import t, { type Test } from 'tap'
import { request } from 'undici'
import commandRoutes, { type Command } from '../../routes/commands.ts'
import { listen, printed, startCurl, until } from '../clients.ts'
import { build, curl, serve } from '../helper.ts'
import { skipWithout } from '../programs.ts'

const shell = (script: string): Command => ({ description: '', file: 'sh', args: ['-c', script] })

/** Prints its own pid and that of a child of its own. */
const endless = shell('sleep 60 & echo "pids $$ $!"; wait')

function serveCommands(t: Test, commands: Record<string, Command>) {
  return serve(t, (app) => app.register(commandRoutes, { commands }))
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function pidsIn(text: string): number[] {
  return (text.match(/\d+/g) ?? []).map(Number)
}

t.test('the list says where the output of each command is', async (t) => {
  const origin = await listen(await build(t))
  const { body } = await request(`${origin}/commands`)
  const list = (await body.json()) as { name: string; output: string }[]
  t.ok(list.length >= 5)
  const outputs = await Promise.all(list.map(({ output }) => curl('--fail', origin + output)))
  outputs.forEach(({ code, body }, index) => {
    t.equal(code, 0, list[index]?.name)
    t.match(body, /\n\[exit status \d+\]\n$/)
  })
})

t.test('the last line is whole, and the exit status has a line of its own', async (t) => {
  const origin = await listen(await build(t))
  const output = async (name: string) => (await curl(`${origin}/commands/${name}/output`)).body
  t.equal(await output('unfinished'), 'first line\nlast line\n[exit status 0]\n')
  t.match(await output('failing'), /^looking for trouble\n/m)
  t.match(await output('failing'), /^found it\n/m)
  t.match(await output('failing'), /\n\[exit status 3\]\n$/)
})

t.test('what a command prints arrives while it runs, from stdout and from stderr', async (t) => {
  const { url } = await serveCommands(t, {
    slow: shell('printf "no line break yet"; sleep 60'),
    complaining: shell('echo trouble >&2; sleep 60')
  })
  const slow = startCurl(`${url}/commands/slow/output`)
  const complaining = startCurl(`${url}/commands/complaining/output`)
  t.equal(await printed(slow.stdout, /yet/), 'no line break yet')
  t.equal(await printed(complaining.stdout, /\n/), 'trouble\n')
  slow.kill()
  complaining.kill()
})

t.test('stdout and stderr do not tear the characters of each other', async (t) => {
  const { url } = await serveCommands(t, {
    torn: shell(
      `printf 'a\\303'; sleep 0.1; printf 'b\\342\\202' >&2; sleep 0.1; printf '\\244c'; printf '\\254d' >&2`
    ),
    latin1: shell(`printf 'caf\\351\\n'`),
    cut: shell(`printf 'caf\\303'`)
  })
  const { body } = await curl(`${url}/commands/torn/output`)
  t.match(body, /äc/)
  t.match(body, /€d/)
  t.equal((await curl(`${url}/commands/latin1/output`)).body, 'caf\ufffd\n[exit status 0]\n')
  t.equal((await curl(`${url}/commands/cut/output`)).body, 'caf\ufffd\n[exit status 0]\n')
})

t.test('a command that prints nothing has its exit status, one that was killed its signal', async (t) => {
  const { url } = await serveCommands(t, { silent: shell('exit 0'), killed: shell('kill -TERM $$') })
  t.equal((await curl(`${url}/commands/silent/output`)).body, '[exit status 0]\n')
  t.equal((await curl(`${url}/commands/killed/output`)).body, '[killed by SIGTERM]\n')
})

t.test('a large output arrives whole', async (t) => {
  const { url } = await serveCommands(t, { large: shell('seq 1 300000') })
  const { body } = await curl(`${url}/commands/large/output`)
  t.match(body, /^1\n2\n/)
  t.ok(body.endsWith('\n300000\n[exit status 0]\n'))
  t.equal(body.split('\n').length, 300_002)
})

t.test('a client that leaves kills the command and what it has started', async (t) => {
  const { url } = await serveCommands(t, { endless })
  const client = startCurl(`${url}/commands/endless/output`)
  const pids = pidsIn(await printed(client.stdout, /pids \d+ \d+\n/))
  t.equal(pids.length, 2)
  t.ok(pids.every(isRunning), 'both run')
  client.kill('SIGKILL')
  await until(() => !pids.some(isRunning))
  t.pass('neither runs any more')
})

t.test('an aborted fetch kills the command even while it prints faster than it is read', async (t) => {
  const { url } = await serveCommands(t, { flood: shell('echo "pids $$"; exec yes') })
  const abort = new AbortController()
  const { body } = await request(`${url}/commands/flood/output`, { signal: abort.signal })
  body.on('error', () => {})
  const pids = pidsIn(await printed(body, /pids \d+\n/)).slice(0, 1)
  t.ok(pids.every(isRunning), 'it runs')
  abort.abort()
  await until(() => !pids.some(isRunning))
})

const withoutSetsid = skipWithout('setsid', 'setsid', 'true')
t.test('what left the process group loses its output with the client', { skip: withoutSetsid }, async (t) => {
  const daemon = shell(`setsid sh -c 'while echo "pid $$"; do sleep 0.01; done' & sleep 60`)
  const { url } = await serveCommands(t, { daemon })
  const client = startCurl(`${url}/commands/daemon/output`)
  const [pid] = pidsIn(await printed(client.stdout, /pid \d+\n/)) as [number]
  t.teardown(() => isRunning(pid) && process.kill(pid))
  client.kill('SIGKILL')
  await until(() => !isRunning(pid))
  t.pass('its next line was its end')
})

t.test('a server that closes leaves no command behind', async (t) => {
  const { app, url } = await serveCommands(t, { endless })
  const client = startCurl(`${url}/commands/endless/output`)
  const pids = pidsIn(await printed(client.stdout, /pids \d+ \d+\n/))
  const exit = once(client, 'exit')
  await app.close()
  await until(() => !pids.some(isRunning))
  await exit
  t.pass('neither the command nor the request goes on')
})

t.test('a command that cannot be started is a 500', async (t) => {
  const { url } = await serveCommands(t, {
    missing: { description: '', file: '/no-such-command-anywhere', args: [] }
  })
  const { statusCode, headers, body } = await request(`${url}/commands/missing/output`)
  t.equal(statusCode, 500)
  t.match(headers['content-type'], /^application\/json/)
  t.match(await body.text(), /ENOENT/)
})

t.test('an unknown name is a 404, whatever it is', async (t) => {
  const origin = await listen(await build(t))
  for (const name of ['nothing', 'constructor', '__proto__', 'uname%20-a', '..%2Funame', 'uname;id']) {
    const { statusCode, body } = await request(`${origin}/commands/${name}/output`)
    t.equal(statusCode, 404, name)
    t.match(await body.text(), /there is no command/)
  }
})

t.test('a parameter is a 400 that names it', async (t) => {
  const origin = await listen(await build(t))
  for (const path of ['/commands?args=-a', '/commands/uname/output?args=-a']) {
    const { statusCode, body } = await request(origin + path)
    t.equal(statusCode, 400, path)
    t.match(await body.text(), /unknown parameter \\"args\\"/)
  }
})
