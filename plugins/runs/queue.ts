import type pg from 'pg'
import type { Job, JobWithMetadata, PgBoss } from 'pg-boss'
import { peer } from '../pg/peers.ts'
import { ensureSchema, transaction } from './table/transaction.ts'

export interface QueueOptions {
  /** Makes the schema. */
  pool: pg.Pool
  connectionString: string
  /** Prefix of its queues' names, which are those of all processes that work together. */
  name: string
  schema: string
  /** Whether a connection of its own listens for new jobs; else they are polled for. */
  notify: boolean
  /** Seconds, at most. */
  pollingInterval: number
  /** Milliseconds for jobs that are under way at the end. */
  closeGrace: number
  onError(error: Error): void
}

/** A job says which run to look at. Whether there is something to do, the table of runs knows. */
interface JobData {
  run: string
}

type NewQueue = NonNullable<Parameters<PgBoss['createQueue']>[1]>

/** Whether it is the last attempt that the queue makes of it. */
export type Handler = (run: string, signal: AbortSignal, isLast: boolean) => Promise<void>

/** Seconds without a sign of life, after which another process takes a job over; 10 is the least. */
const heartbeat = 10
/** Seconds: the longest that pg-boss takes. */
const longestJob = 86_400 - 1
/** Seconds for which a job waits: one that went before it has begun would leave its run queued for good. */
const retention = 10 * 365 * 86_400

/** What pg-boss does for runs: says in which process which attempt is made, and again when a process dies. */
export class Queue {
  readonly #options: QueueOptions
  readonly #boss: PgBoss

  private constructor(boss: PgBoss, options: QueueOptions) {
    this.#boss = boss
    this.#options = options
  }

  /**
   * pg-boss is loaded here, as nobody else needs to have it installed.
   * @throws CSV_EXPORT_NOT_INSTALLED without it
   */
  static async start(options: QueueOptions): Promise<Queue> {
    const { PgBoss } = await peer('pg-boss', 'fastify-csv-export/runs', import('pg-boss'))
    const { pool, connectionString, schema, notify, onError } = options
    await transaction(pool, (client) => ensureSchema(client, schema))
    const boss = new PgBoss({
      connectionString,
      schema,
      createSchema: false,
      application_name: 'fastify-csv-export queue',
      max: 2,
      schedule: false,
      useListenNotify: notify,
      // Of these three depends how soon a run of a dead process is taken over.
      superviseIntervalSeconds: 1,
      monitorIntervalSeconds: 1,
      maintenanceIntervalSeconds: 60
    })
    boss.on('error', onError)
    const queue = new Queue(boss, options)
    try {
      await boss.start()
      await queue.#create()
    } catch (error) {
      await queue.stop()
      throw error
    }
    return queue
  }

  get #runs(): string {
    return `${this.#options.name}.runs`
  }

  get #lost(): string {
    return `${this.#options.name}.lost`
  }

  get #finished(): string {
    return `${this.#options.name}.finished`
  }

  async #create(): Promise<void> {
    const common = {
      retryLimit: 10,
      retryDelay: 1,
      retryBackoff: true,
      retryDelayMax: 30,
      // For those who listen, whether this process does or not.
      notify: true,
      heartbeatSeconds: heartbeat,
      deleteAfterSeconds: 3_600
    }
    await this.#ensure(this.#lost, { ...common, retentionSeconds: retention, retryLimit: 1_000 })
    // Where no process is told of them, they go after pg-boss's own 14 days.
    await this.#ensure(this.#finished, common)
    await this.#ensure(this.#runs, {
      ...common,
      retentionSeconds: retention,
      deadLetter: this.#lost,
      expireInSeconds: longestJob
    })
  }

  /** Also one that another release has made. */
  async #ensure(name: string, options: NewQueue): Promise<void> {
    await this.#boss.createQueue(name, options)
    await this.#boss.updateQueue(name, options)
  }

  /** In the transaction of the client, if there is one. */
  readonly sendRun = (client: pg.ClientBase, run: string): Promise<void> =>
    this.#send(client, this.#runs, run)

  /** @param seconds until it is looked at, at the least */
  readonly sendRunLater = async (run: string, seconds: number): Promise<void> => {
    // Up to twice as long: who sends it polls once a second, and would be the first to find it, each time.
    const startAfter = seconds * (1 + Math.random())
    await this.#boss.send(this.#runs, { run } satisfies JobData, { startAfter })
  }

  readonly sendFinished = (client: pg.ClientBase, run: string): Promise<void> =>
    this.#send(client, this.#finished, run)

  async #send(client: pg.ClientBase, name: string, run: string): Promise<void> {
    const db = { executeSql: (text: string, values?: unknown[]) => client.query(text, values) }
    await this.#boss.send(name, { run } satisfies JobData, { db })
  }

  /** @param concurrency of runs, in this process */
  async work(
    concurrency: number,
    handlers: { run: Handler; lost: Handler; finished?: Handler | undefined }
  ): Promise<void> {
    // One by one: of several that pg-boss makes at once, only the first can be told to look again.
    for (let count = 0; count < concurrency; count++) await this.#work(this.#runs, handlers.run)
    await this.#work(this.#lost, handlers.lost)
    if (handlers.finished !== undefined) await this.#work(this.#finished, handlers.finished)
  }

  async #work(name: string, handler: Handler): Promise<void> {
    // At the same pace, one process would always be the first, also for what it leaves to another.
    const pollingInterval = this.#options.pollingInterval * (0.75 + Math.random() / 4)
    const id = await this.#boss.work<JobData, void, { includeMetadata: true }>(
      name,
      {
        includeMetadata: true,
        pollingIntervalSeconds: pollingInterval,
        // Its default is 30: what nobody notifies of, as a job given back by the death of a process, would wait that long.
        notifyPollingIntervalSeconds: pollingInterval,
        heartbeatRefreshSeconds: 3
      } as never,
      (async ([job]: JobWithMetadata<JobData>[]) => {
        const { data, signal, retryCount, retryLimit } = job as JobWithMetadata<JobData>
        try {
          await handler(data.run, signal, retryCount >= retryLimit)
        } finally {
          // There may be another one already, for which it would else wait until the next poll.
          this.#boss.notifyWorker(id)
        }
      }) as never
    )
  }

  /** Takes no more jobs, and waits a while for those that are under way: then they are another process's. */
  async stop(): Promise<void> {
    await this.#boss.stop({ graceful: true, close: true, timeout: this.#options.closeGrace })
  }

  /** Takes no more jobs. */
  async rest(): Promise<void> {
    await Promise.all(
      [this.#runs, this.#lost, this.#finished].map((name) => this.#boss.offWork(name, { wait: false }))
    )
  }
}

export type { Job }
