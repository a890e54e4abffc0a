import { PassThrough } from 'node:stream'

/** A stage that ends when it is destroyed, as those of readable-stream before version 4. */
export class EndsWhenDestroyed extends PassThrough {
  override _destroy(_error: Error | null, callback: (error?: Error | null) => void): void {
    this.push(null)
    callback()
  }
}
