import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter } from 'node:events'
import type { Told } from './faults.ts'
import type { Command, Message } from './server.ts'

/** The servers in a process of their own, and what they have said of a round. */
export class Soaked extends EventEmitter implements Told {
  readonly called: Told['called'] = new Set()
  readonly begun: Told['begun'] = new Set()
  readonly receipts: Told['receipts'] = new Map()
  readonly process: ChildProcess
  /** Of the servers, by their names. */
  origins: Record<string, string> = {}
  #asked = 0
  readonly #answers = new Map<number, (answer: unknown) => void>()

  /** @param files names of those of a key and a certificate; without them there are no servers with TLS */
  constructor(files: string[]) {
    super()
    this.setMaxListeners(0)
    this.process = fork(new URL('./server.ts', import.meta.url), files)
    this.process.on('message', (message: Message) => this.#take(message))
  }

  /** Opens all servers anew. */
  async open(): Promise<void> {
    this.called.clear()
    this.begun.clear()
    this.receipts.clear()
    this.origins = await this.ask({ name: 'open' })
  }

  ask<Answer>(command: Command): Promise<Answer> {
    const number = ++this.#asked
    this.process.send({ ...command, number })
    return new Promise((resolve) => this.#answers.set(number, resolve as (answer: unknown) => void))
  }

  #take(message: Message): void {
    if ('called' in message) this.called.add(message.called)
    else if ('begun' in message) this.begun.add(message.begun)
    else if ('receipt' in message) {
      const { id } = message.receipt
      this.receipts.set(id, [...(this.receipts.get(id) ?? []), message.receipt])
      this.emit(`receipt ${id}`)
    } else if ('answer' in message) {
      this.#answers.get(message.number)?.(message.answer)
      this.#answers.delete(message.number)
    }
  }
}
