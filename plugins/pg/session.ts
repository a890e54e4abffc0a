import type pg from 'pg'
import { borrow } from './borrow.ts'
import { CSV_EXPORT_DATABASE_UNAVAILABLE } from './errors.ts'
import { send, sendCancelRequest } from './insides.ts'
import { isSettled } from './settled.ts'

/** Longest wait for a connection to come back clean, in milliseconds: then it is destroyed. */
const patience = 5_000
/** The wait for the answer to a cancellation before it is sent again, in milliseconds; it doubles each time. */
const firstPause = 50

/**
 * The text of dates, times, floats and bytes depends on these, so no settings of the server, the role or the connection
 * may decide. Not start-up options: a pooler refuses or drops those, and a connection string can replace them.
 */
const begin = `
  BEGIN;
  SET LOCAL TimeZone = 'UTC';
  SET LOCAL DateStyle = 'ISO';
  SET LOCAL IntervalStyle = 'postgres';
  SET LOCAL extra_float_digits = 1;
  SET LOCAL bytea_output = 'hex'`

/**
 * One transaction on a connection that is borrowed from a pool, with one way to its end.
 * A connection goes back to the pool only when it is known to be clean; else it is destroyed, which the server takes for
 * a rollback. Nobody waits for either.
 */
export class Session {
  readonly #pool: pg.Pool
  #client: pg.PoolClient | undefined
  /** Makes who waits for the request that is under way wait no longer. */
  #giveUp: ((reason: unknown) => void) | undefined
  #answer: Promise<unknown> | undefined
  #leave: (() => Promise<unknown>) | undefined
  #stopClock: (() => void) | undefined
  /** Rejects when the connection is lost: after that, some requests are never answered. */
  readonly #lost = Promise.withResolvers<never>()
  #over = false
  #reason: unknown

  constructor(pool: pg.Pool) {
    this.#pool = pool
    this.#lost.promise.catch(noop)
  }

  /** Borrows a connection, and begins. @throws as `ask()` */
  async begin(): Promise<void> {
    await this.#request(() => this.#borrow())
    await this.ask((client) => client.query(begin))
  }

  /**
   * Makes a request, one at a time. When it fails, the session is over.
   * @throws PostgreSQL's own error, CSV_EXPORT_DATABASE_UNAVAILABLE, or at once the reason given to `end()`
   */
  ask<T>(request: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.#request(() => request(this.#client as pg.PoolClient))
  }

  /**
   * Sends the one statement.
   * @param leave ends it between two requests; without it only a cancellation does
   * @throws as `ask()`
   */
  async submit(query: pg.Submittable, leave?: () => Promise<unknown>): Promise<void> {
    this.#stopClock = await this.ask(async (client) => send(client, query))
    this.#leave = leave
  }

  /** @throws as `ask()` */
  async commit(): Promise<void> {
    await this.ask((client) => client.query('COMMIT'))
    this.#over = true
    this.#release(false)
  }

  /**
   * Ends it before its commit. Only the first end counts.
   * @param answer what else the server still has to answer
   */
  end(reason: unknown, answer = this.#answer): void {
    if (this.#over) return
    const leave = answer === undefined ? this.#leave : undefined
    this.#stop(reason)
    // A connection that is still to come goes back when it does.
    if (this.#client === undefined) return
    const cleaned = leave === undefined ? this.#cancel(answer) : this.#rollBack(leave)
    cleaned.then(
      () => this.#release(leave === undefined),
      () => this.#release(true)
    )
  }

  /** Ends it where the connection is lost, or is in a state that nobody knows. */
  readonly fail = (error: unknown): void => {
    if (this.#over) return
    this.#stop(explain(error))
    if (this.#client === undefined) return
    if (isServersWord(error)) {
      this.#release(true)
      return
    }
    // The statement may still run there, and what comes for it must find nobody here.
    this.#client.end()
    const destroy = () => this.#release(true)
    this.#cancel().then(destroy, destroy)
  }

  #stop(reason: unknown): void {
    this.#over = true
    this.#reason = reason
    this.#giveUp?.(reason)
  }

  #request<T>(request: () => Promise<T>): Promise<T> {
    if (this.#over) return Promise.reject(this.#reason)
    return new Promise((resolve, reject) => {
      this.#giveUp = reject
      // What throws instead is a failure, too.
      const answer = (async () => request())()
      this.#answer = answer
      answer.then((value) => {
        this.#giveUp = undefined
        this.#answer = undefined
        resolve(value)
      }, this.fail)
    })
  }

  async #borrow(): Promise<void> {
    // A lost connection says so here, and perhaps nowhere else.
    const client = await borrow(this.#pool, this.fail).catch((error) => {
      throw new CSV_EXPORT_DATABASE_UNAVAILABLE({ cause: error })
    })
    if (this.#over) {
      client.off('error', this.fail)
      client.release()
      return
    }
    this.#client = client
    client.on('end', this.#onEnd)
  }

  readonly #onEnd = (): void => {
    const error = new Error('the database connection was lost')
    this.#lost.reject(error)
    this.fail(error)
  }

  async #rollBack(leave: () => Promise<unknown>): Promise<void> {
    const client = this.#client as pg.PoolClient
    const rolledBack = leave().then(() => client.query('ROLLBACK'))
    if (await isSettled(this.#orLost(rolledBack), patience)) return
    throw new Error('the database does not answer')
  }

  /**
   * A late cancellation would hit the next statement: a connection is not used again after one. An early one, between
   * two messages that make a statement run, is lost on the server: it is sent again until there is an answer.
   *
   * @param request what is under way, if an answer may still come
   */
  async #cancel(request?: Promise<unknown>): Promise<void> {
    const answer = request && this.#orLost(request).then(noop, noop)
    const deadline = performance.now() + patience
    for (let pause = firstPause; performance.now() < deadline; pause *= 2) {
      await sendCancelRequest(this.#pool, this.#client as pg.PoolClient, patience)
      if (answer === undefined || (await isSettled(answer, pause))) return
    }
  }

  #orLost<T>(answer: Promise<T>): Promise<T> {
    return Promise.race([answer, this.#lost.promise])
  }

  #release(destroy: boolean): void {
    const client = this.#client as pg.PoolClient
    client.off('error', this.fail)
    client.off('end', this.#onEnd)
    this.#stopClock?.()
    client.release(destroy)
  }
}

function noop(): void {}

function isServersWord(error: unknown): boolean {
  return error instanceof Error && 'severity' in error
}

function explain(error: unknown): unknown {
  if (isServersWord(error)) return error
  // What is left is the network's, under one of many codes: EPIPE, ECONNRESET, or none.
  return error instanceof CSV_EXPORT_DATABASE_UNAVAILABLE
    ? error
    : new CSV_EXPORT_DATABASE_UNAVAILABLE({ cause: error })
}
