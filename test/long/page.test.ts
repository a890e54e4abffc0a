import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { on, once } from 'node:events'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Run } from '../../plugins/runs/index.ts'
import { printed } from '../clients.ts'
import { makeReportBig, startDatabase, temporaryFolder } from '../database.ts'
import { skipWithout } from '../programs.ts'
import { Chromium } from './chromium.ts'
import { startCuttingProxy } from './cutting-proxy.ts'

t.setTimeout(300_000)

const root = join(import.meta.dirname, '../..')
const skip = skipWithout('Chromium (chromium)', 'chromium', '--version')

t.test('the part for people of the page', { skip }, async (t) => {
  const databaseUrl = await startDatabase(t)
  // Its run is not to end before it has been seen to grow, and is cancelled then.
  await makeReportBig(databaseUrl, 200)
  const env = { ...process.env, DATABASE_URL: databaseUrl, HOST: '127.0.0.1', PORT: '0' }
  const server = spawn(process.execPath, ['server.ts'], {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => server.kill('SIGKILL'))
  const listening = await printed(server.stdout, /http:\/\/127\.0\.0\.1:\d+/)
  server.stdout.resume()
  const url = /http:[\w/.:]+/.exec(listening)?.[0] as string

  const downloads = await temporaryFolder(t)
  const chromium = await Chromium.start(t, downloads)
  const complaints: unknown[] = []
  for (const event of ['Log.entryAdded', 'Runtime.exceptionThrown'])
    chromium.on(event, (complaint) => complaints.push(complaint))
  await chromium.open(url)

  /** Names and roles as a screen reader has them. */
  async function accessible(): Promise<string[]> {
    const { nodes } = await chromium.send('Accessibility.getFullAXTree')
    return nodes
      .filter(({ ignored }: { ignored: boolean }) => !ignored)
      .map(({ role, name }: Record<string, { value: string }>) =>
        `${role?.value} ${name?.value ?? ''}`.trim()
      )
  }

  /** Presses Tab until an element that matches has the focus. */
  async function tabTo(selector: string): Promise<void> {
    for (let presses = 0; presses < 60; presses++) {
      if (await hasFocus(selector)) return
      await chromium.press('Tab')
    }
    throw new Error(`no Tab leads to ${selector}`)
  }

  const hasFocus = (selector: string): Promise<boolean> =>
    chromium.evaluate(`document.activeElement.matches(${JSON.stringify(selector)})`)
  const textOf = (selector: string): string =>
    `document.querySelector(${JSON.stringify(selector)})?.textContent`
  const status = textOf('#status')

  await t.test('a run is chosen, made, seen growing, cancelled and deleted by keyboard alone', async (t) => {
    await tabTo('select')
    await chromium.press('ArrowDown')
    await chromium.press('ArrowUp')
    await tabTo('#new-run button')
    await chromium.press('Enter')
    const progress = textOf('.progress')
    const seen = await chromium.until<string>(`/^running, [1-9]/.test(${progress}) && ${progress}`)
    t.match(seen, /^running, [\d,]+ rows, [\d,]+ bytes$/)
    t.equal(await chromium.evaluate(status), 'cargoes: running')
    const names = await accessible()
    for (const name of [
      'heading Make a report',
      'combobox Report',
      'button Make it',
      'status',
      'list Latest runs',
      'heading cargoes',
      'button Cancel cargoes'
    ])
      t.ok(names.includes(name), name)
    t.ok(
      await chromium.until(`/^running/.test(${progress}) && ${progress} !== ${JSON.stringify(seen)}`),
      'it grows'
    )
    await tabTo('.actions button')
    await chromium.press('Enter')
    await chromium.until(`/^cargoes: cancelled/.test(${status})`)
    t.ok(await hasFocus('[aria-label="Delete cargoes"]'), 'what comes in its place has the focus')
    await chromium.press('Enter')
    await chromium.until('document.querySelectorAll("#runs li").length === 0')
    t.ok(await hasFocus('#runs-heading'), 'so has what is left')
  })

  await t.test('what others have asked for is written as text', async (t) => {
    const origin = '<img src=x onerror=alert(1)>'
    const body = JSON.stringify({ origin })
    const headers = { 'content-type': 'application/json' }
    const { status } = await fetch(`${url}/reports/cargoes/runs`, { method: 'POST', headers, body })
    t.equal(status, 202)
    await chromium.open(url)
    t.equal(await chromium.until(textOf('#runs h3')), `cargoes, origin ${origin}`)
  })

  await t.test('it fits 360 px, and is legible in light and in dark', async (t) => {
    const width = 360
    await chromium.send('Emulation.setDeviceMetricsOverride', {
      width,
      height: 740,
      deviceScaleFactor: 2,
      mobile: true
    })
    t.equal(await chromium.evaluate('document.documentElement.scrollWidth'), width)
    for (const value of ['light', 'dark']) {
      const features = [{ name: 'prefers-color-scheme', value }]
      await chromium.send('Emulation.setEmulatedMedia', { features })
      const least = Object.entries(await chromium.evaluate<Record<string, number>>(contrasts))
      t.equal(least.length, 9)
      for (const [name, contrast] of least) t.ok(contrast >= 4.5, `${value} ${name} ${contrast}`)
    }
    await chromium.send('Emulation.clearDeviceMetricsOverride')
  })

  t.same(complaints, [], 'the browser complains of nothing: not of the policy, not of the script')

  /** Begins by keyboard; resolves to the file's digest when it is whole, resumes it whenever it has broken. */
  async function download(): Promise<string> {
    await tabTo('.actions a')
    const begun = once(chromium, 'Browser.downloadWillBegin')
    const progress = on(chromium, 'Browser.downloadProgress')
    await chromium.press('Enter')
    const [{ suggestedFilename }] = await begun
    for await (const [{ state }] of progress) if (state !== 'inProgress') break
    // The protocol tells no more of a download that is resumed. It has its name when it is whole.
    while (!(await readdir(downloads)).includes('cargoes.csv')) await chromium.resumeDownload()
    const [name, ...others] = await readdir(downloads)
    t.same([suggestedFilename, name, others], ['cargoes.csv', 'cargoes.csv', []])
    const file = await readFile(join(downloads, 'cargoes.csv'))
    await rm(join(downloads, 'cargoes.csv'))
    return createHash('sha256').update(file).digest('hex')
  }

  await t.test('Chromium downloads the file, and resumes it where it has broken', async (t) => {
    await chromium.open(url)
    await chromium.evaluate('document.querySelector("#new-run button").click()')
    await chromium.until(`/^cargoes: succeeded/.test(${status})`)
    const [{ result }] = (await (await fetch(`${url}/runs`)).json()) as [Run]
    const { bytes, sha256 } = result as NonNullable<Run['result']>
    t.equal(await download(), sha256)
    // A part of the file alone: who would begin anew would never have it.
    const proxy = await startCuttingProxy(t, url, () => Math.ceil(0.3 * bytes))
    await chromium.open(proxy.url)
    t.equal(await download(), sha256)
    t.equal(proxy.cuts, 3)
  })

  await t.test('it says that the server does not answer', async () => {
    await chromium.open(url)
    server.kill('SIGKILL')
    await once(server, 'exit')
    await chromium.evaluate('document.querySelector("#new-run button").click()')
    await chromium.until(`${status} === 'The server does not answer.'`)
  })
})

/** Of the page: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio of each kind of element that has text, the least. */
const contrasts = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  // Painted one over the other, as colours may be half transparent.
  const paint = (colors) => {
    for (const color of colors) {
      canvas.fillStyle = color
      canvas.fillRect(0, 0, 1, 1)
    }
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => {
      const share = part / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const least = {}
  for (const element of document.querySelectorAll('h1, h2, h3, p, pre, a, label, select, button')) {
    const behind = []
    for (let node = element; node; node = node.parentElement) behind.unshift(getComputedStyle(node).backgroundColor)
    const [low, high] = [paint(behind), paint([...behind, getComputedStyle(element).color])].sort((a, b) => a - b)
    const contrast = (high + 0.05) / (low + 0.05)
    least[element.tagName] = Math.min(contrast, least[element.tagName] ?? contrast)
  }
  return least
})()`
