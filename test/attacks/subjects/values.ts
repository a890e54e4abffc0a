/** Things to throw that are hard to read, to write on or to make text of, each made anew. */
export const values: Record<string, () => unknown> = {
  'a frozen Error': () => Object.freeze(new Error('frozen')),
  'a frozen Error with a code': () =>
    Object.freeze(Object.assign(new Error('no such table'), { code: 'NO_TABLE', statusCode: 404 })),
  'a sealed Error': () => Object.seal(new RangeError('sealed')),
  'an object without prototype': () => Object.create(null),
  'an Error without prototype': () => Object.setPrototypeOf(new Error('bare'), null),
  undefined: () => undefined,
  null: () => null,
  'a Symbol': () => Symbol('thrown'),
  'a BigInt': () => 1n,
  'a function': () => () => {
    throw new Error('called')
  },
  'a class': () => class Thrown {},
  'a revoked Proxy': () => revoked({}),
  'a revoked Proxy of a function': () => revoked(() => {}),
  'a revoked Proxy of an Error': () => revoked(new Error('proxied')),
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  'a thenable that throws': () => ({ then: thrower }),
  'an Error whose code is an object without prototype': () => withProperty('code', Object.create(null)),
  'an Error whose code throws as text': () => withProperty('code', { toString: thrower }),
  'an Error whose code is a Symbol': () => withProperty('code', Symbol('code')),
  'an Error whose name is an object without prototype': () => withProperty('name', Object.create(null)),
  'an Error whose message is an object without prototype': () => withProperty('message', Object.create(null)),
  'an Error whose message is a Symbol': () => withProperty('message', Symbol('message')),
  'an Error whose status is no status': () => withProperty('statusCode', '500 or so'),
  'an Error whose status is a BigInt': () => withProperty('statusCode', 404n),
  'an Error whose status is a Symbol': () => withProperty('status', Symbol('status')),
  'an Error whose headers are none': () => withProperty('headers', { 'no header': '\n' }),
  'an Error whose headers are null': () => withProperty('headers', null),
  'an Error whose headers cannot be listed': () =>
    withProperty('headers', new Proxy({}, { ownKeys: thrower })),
  'an Error whose headers have a getter that throws': () =>
    withProperty('headers', Object.defineProperty({}, 'allow', { get: thrower, enumerable: true })),
  'an Error whose cause is a revoked Proxy': () => withProperty('cause', revoked(new Error('cause'))),
  'an Error whose cause throws when called': () => withProperty('cause', thrower),
  'an Error that is its own cause': () => {
    const error = new Error('circular')
    return Object.assign(error, { cause: error })
  },
  'an Error with a frozen Error in it': () => withProperty('original', Object.freeze(new Error('inner'))),
  'an AggregateError of frozen Errors': () =>
    new AggregateError([Object.freeze(new Error('inner'))], 'all failed'),
  ...Object.fromEntries(
    ['message', 'name', 'stack', 'code', 'statusCode', 'status', 'headers', 'cause', 'detail'].map((key) => [
      `an Error whose ${key} is a getter that throws`,
      () => Object.defineProperty(new Error('getter'), key, { get: thrower, enumerable: true })
    ])
  ),
  'an Error whose code is a getter that throws from the second time on': () => {
    let count = 0
    const get = () => (++count === 1 ? 'FIRST' : thrower())
    return Object.defineProperty(new Error('getter'), 'code', { get })
  },
  'an Error of a class whose code is a getter that throws': () =>
    new (class extends Error {
      get code(): string {
        return thrower()
      }
    })('getter')
}

export function thrower(): never {
  throw new Error('thrown by what was thrown')
}

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

function withProperty(key: string, value: unknown): Error {
  return Object.defineProperty(new Error('property'), key, { value, enumerable: true, writable: true })
}
