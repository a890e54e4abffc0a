import { registerHooks } from 'node:module'

// AWS's runtime client asks for invocations and sends buffered answers with an addon of its own, which would have to be
// compiled together with libcurl. A streamed answer it sends with Node's own HTTP, and so it asks, too, if told to.
const name = './rapid-client.node'

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === name
      ? { url: new URL(name, import.meta.url).href, format: 'commonjs', shortCircuit: true }
      : next(specifier, context),
  load: (url, context, next) =>
    url.endsWith('rapid-client.node')
      ? { format: 'commonjs', source: 'exports.initializeClient = () => {}', shortCircuit: true }
      : next(url, context)
})
