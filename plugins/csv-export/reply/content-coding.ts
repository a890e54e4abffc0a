import type { FastifyReply } from 'fastify'
import { headHasGone } from '../connection/connection.ts'
import { type ContentCoding, contentCodings } from '../options/http.ts'
import { type Coder, createCoder } from '../stream/coders.ts'
import { addVary, dropHeader } from './headers.ts'

/** A smaller body is sent as it is, in bytes: coding it would save next to nothing. */
const smallestCoded = 1_024

/**
 * The coding of one reply. Chosen early, so that hooks that would code the body see that it is taken; done with the first
 * bytes, as the body may turn out to be small, somebody else's, or an error.
 */
export class ReplyCoding {
  readonly #reply: FastifyReply
  readonly #coding: ContentCoding
  /** Bytes; a smaller body is to be written as it is. */
  readonly smallest: number

  private constructor(reply: FastifyReply, coding: ContentCoding, smallest: number) {
    this.#reply = reply
    this.#coding = coding
    this.smallest = smallest
    reserve(reply, coding)
  }

  /** Sets Vary and takes Content-Encoding; undefined if the client takes none of the codings, or the route has its own. */
  static choose(reply: FastifyReply, codings: readonly ContentCoding[]): ReplyCoding | undefined {
    if (reply.hasHeader('content-encoding')) return undefined
    if (mustStay(reply)) {
      // By others neither.
      reserve(reply, 'identity')
      return undefined
    }
    if (codings.length === 0) return undefined
    addVary(reply, 'accept-encoding')
    const { 'accept-encoding': accepted } = reply.request.headers
    if (accepted === undefined) return undefined
    const quality = qualities(accepted)
    const [best] = [...codings, 'identity' as const].sort((one, other) => quality(other) - quality(one))
    if (best === undefined || best === 'identity' || quality(best) === 0) return undefined
    return new ReplyCoding(reply, best, quality('identity') === 0 ? 1 : smallestCoded)
  }

  /**
   * Called before the first byte is sent.
   * @returns undefined if the body is to be written as it is
   */
  open(): Coder | undefined {
    const isTaken = this.#reply.getHeader('content-encoding') !== reserved(this.#coding)
    if (isTaken || headHasGone(this.#reply.raw)) return undefined
    // Set by a hook in the meantime.
    if (mustStay(this.#reply)) return undefined
    this.#reply.header('content-encoding', this.#coding)
    // Fastify has handed its headers over.
    this.#reply.raw.setHeader('content-encoding', this.#coding)
    return createCoder(this.#coding)
  }
}

/** Called before the head is written: what is not coded must not say so. */
export function takeBackCoding(reply: FastifyReply): void {
  const taken = reply.getHeader('content-encoding')
  if (taken === reserved('identity') || chosenCoding(reply) !== undefined)
    dropHeader(reply, 'content-encoding')
}

/** The coding that a reply of ours is to have, as long as it has not begun. */
export function chosenCoding(reply: FastifyReply): ContentCoding | undefined {
  const taken = reply.getHeader('content-encoding')
  return contentCodings.find((coding) => taken === reserved(coding))
}

/** Hooks that would code the body see that it is taken. */
function reserve(reply: FastifyReply, coding: ContentCoding | 'identity'): void {
  reply.header('content-encoding', reserved(coding))
}

/** The same coding, as names of codings have no case, but told from one that a hook has set. */
function reserved(coding: ContentCoding | 'identity'): string {
  return coding.toUpperCase()
}

/**
 * How welcome each coding is: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
 * What is not mentioned is not welcome, but for a body as it is, which is so as the last resort.
 */
function qualities(header: string | string[]): (coding: ContentCoding | 'identity') => number {
  const parts = String(header)
    .toLowerCase()
    .split(',')
    .map((part) => /^\s*(?:x-(?=gzip\b))?([^\s;]+)\s*(?:;\s*q=([01](?:\.\d*)?)\s*)?$/.exec(part))
  const byCoding = new Map(parts.map((part) => [part?.[1], Number(part?.[2] ?? 1)]))
  const others = byCoding.get('*')
  return (coding) => byCoding.get(coding) ?? others ?? (coding === 'identity' ? Number.MIN_VALUE : 0)
}

/** A part of a representation, whose bytes are counted as they are, or one that nobody may change. */
function mustStay(reply: FastifyReply): boolean {
  return (
    reply.statusCode === 206 ||
    reply.hasHeader('content-range') ||
    reply.raw.hasHeader('content-range') ||
    /\bno-transform\b/i.test(String(reply.getHeader('cache-control')))
  )
}
