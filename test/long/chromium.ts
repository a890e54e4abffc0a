import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import type { Test } from 'tap'
import { temporaryFolder } from '../database.ts'

/** A key that a person presses. */
const keys = {
  Tab: { code: 'Tab', windowsVirtualKeyCode: 9 },
  Enter: { code: 'Enter', windowsVirtualKeyCode: 13, text: '\r' },
  ArrowUp: { code: 'ArrowUp', windowsVirtualKeyCode: 38 },
  ArrowDown: { code: 'ArrowDown', windowsVirtualKeyCode: 40 }
}

/**
 * Debian's Chromium without a screen, driven by its own protocol: https://chromedevtools.github.io/devtools-protocol/
 * Emits the protocol's events by their name.
 */
export class Chromium extends EventEmitter {
  readonly #commands: Writable
  readonly #answers = new Map<number, PromiseWithResolvers<any>>()
  #lastId = 0
  #session: string | undefined

  private constructor(commands: Writable, messages: Readable) {
    super()
    this.#commands = commands
    // What it leaves unsaid when it is killed.
    for (const pipe of [commands, messages]) pipe.on('error', () => {})
    let rest = ''
    messages.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\0')
      rest = parts.pop() as string
      for (const part of parts) this.#take(JSON.parse(part))
    })
  }

  /** @param downloads the folder for what it saves */
  static async start(t: Test, downloads: string): Promise<Chromium> {
    const profile = await temporaryFolder(t)
    // By pipes, with whose end it ends too: a test that is killed leaves none behind.
    const options = [
      '--headless=new',
      '--remote-debugging-pipe',
      `--user-data-dir=${profile}`,
      '--disable-gpu'
    ]
    // It has no sandbox for root.
    if (process.getuid?.() === 0) options.push('--no-sandbox')
    const child = spawn('chromium', options, {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      // A group of its own, as its processes are many.
      detached: true
    })
    const closed = once(child, 'close')
    t.teardown(async () => {
      process.kill(-(child.pid as number), 'SIGKILL')
      await closed
    })
    const [, , , commands, messages] = child.stdio as unknown as [null, null, null, Writable, Readable]
    const chromium = new Chromium(commands, messages)
    await chromium.send('Browser.setDownloadBehavior', {
      behavior: 'allow',
      downloadPath: downloads,
      eventsEnabled: true
    })
    return chromium
  }

  #take({ id, result, error, method, params }: any): void {
    if (id === undefined) return void this.emit(method, params)
    const answer = this.#answers.get(id)
    this.#answers.delete(id)
    if (error === undefined) answer?.resolve(result)
    else answer?.reject(new Error(error.message))
  }

  /** Commands go to the page that was opened last. */
  async send(method: string, params: object = {}): Promise<any> {
    this.#lastId += 1
    const answer = Promise.withResolvers<any>()
    this.#answers.set(this.#lastId, answer)
    const isOfBrowser = /^(Browser|Target)\./.test(method)
    const session = isOfBrowser ? undefined : this.#session
    this.#commands.write(`${JSON.stringify({ id: this.#lastId, method, params, sessionId: session })}\0`)
    return await answer.promise
  }

  async open(url: string): Promise<void> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.#session = sessionId
    for (const domain of ['Page', 'Runtime', 'Log', 'Accessibility']) await this.send(`${domain}.enable`)
    const loaded = once(this, 'Page.loadEventFired')
    await this.send('Page.navigate', { url })
    await loaded
  }

  /** Begins a download, without a person who follows a link. Resolves to its file's name. */
  async download(url: string): Promise<string> {
    const begun = once(this, 'Browser.downloadWillBegin')
    await this.send('Target.createTarget', { url })
    const [{ suggestedFilename }] = await begun
    return suggestedFilename
  }

  /** What an expression gives in the page. */
  async evaluate<T = any>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true
    })
    if (exceptionDetails !== undefined) throw new Error(exceptionDetails.exception?.description)
    return result.value
  }

  /** Resolves to what the expression gives as soon as that is truthy. */
  async until<T = any>(expression: string): Promise<T> {
    return await this.evaluate(`new Promise((resolve, reject) => {
      const deadline = performance.now() + 60_000
      const look = () => {
        const value = ${expression}
        if (value) resolve(value)
        else if (performance.now() > deadline) reject(new Error(${JSON.stringify(`never: ${expression}`)}))
        else setTimeout(look, 20)
      }
      look()
    })`)
  }

  async press(key: keyof typeof keys): Promise<void> {
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, ...keys[key] })
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, ...keys[key] })
  }

  /** Has it go on with its latest download, if that has broken, as a person would on its page of downloads. */
  async resumeDownload(): Promise<void> {
    if ((await this.evaluate('location.href')) !== 'chrome://downloads/')
      await this.open('chrome://downloads')
    await this.evaluate(`(async () => {
      const find = (root, selector) => {
        const found = root.querySelector(selector)
        if (found !== null) return found
        for (const { shadowRoot } of root.querySelectorAll('*')) {
          const inner = shadowRoot && find(shadowRoot, selector)
          if (inner) return inner
        }
      }
      const button = find(document, '#pause-or-resume')
      if (button?.textContent.trim() === 'Resume') button.click()
      await new Promise((resolve) => setTimeout(resolve, 100))
    })()`)
  }
}
