interface Node<T> {
  item: T | undefined
  previous: Node<T>
  next: Node<T>
}

/**
 * Items in the order in which they came, each of which goes at some time.
 *
 * No Set: V8 copies one whenever it is full of what has been deleted, and each old table points to the next one. Once the
 * young collector has kept one of them, it keeps all that come after it, with every item that was in them.
 */
export class List<T> {
  readonly #ring: Node<T>
  size = 0

  constructor() {
    const ring = { item: undefined } as Node<T>
    this.#ring = Object.assign(ring, { previous: ring, next: ring })
  }

  /** @returns takes it out again, once */
  add(item: T): () => void {
    const next = this.#ring
    const { previous } = next
    const node: Node<T> = { item, previous, next }
    previous.next = node
    next.previous = node
    this.size++
    return () => {
      if (node.next === node) return
      node.previous.next = node.next
      node.next.previous = node.previous
      // Points to nothing that comes later.
      node.item = undefined
      node.previous = node
      node.next = node
      this.size--
    }
  }

  /** Of those that are there now. */
  [Symbol.iterator](): Iterator<T> {
    const items: T[] = []
    for (let node = this.#ring.next; node !== this.#ring; node = node.next) items.push(node.item as T)
    return items.values()
  }
}
