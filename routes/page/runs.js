// The part of the page that makes runs and shows them. What comes from the server is written as text, never as markup.

/** Milliseconds between two looks at runs that are open. */
const interval = 1_000

const form = document.getElementById('new-run')
const choice = document.getElementById('report')
const list = document.getElementById('runs')
const status = document.getElementById('status')

/** States that have been told, by the run's id. */
const told = new Map()
let timer
let looks = 0

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const { report, parameters } = choice.selectedOptions[0].dataset
  act('POST', `/reports/${report}/runs`, parameters)
})

list.addEventListener('click', ({ target }) => {
  const { method, url } = target.dataset
  if (method !== undefined) act(method, url)
})

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) look()
})

async function act(method, url, body) {
  try {
    await ask(url, {
      method,
      body,
      headers: body === undefined ? {} : { 'content-type': 'application/json' }
    })
  } catch (error) {
    status.textContent = error.message
  }
  await look()
}

async function ask(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Error('The server does not answer.')
  })
  const answer = response.status === 204 ? undefined : await response.json()
  if (!response.ok) throw new Error(answer.message)
  return answer
}

/** Shows the runs as they are, and looks again while one is open. */
async function look() {
  clearTimeout(timer)
  looks += 1
  const own = looks
  let isOver = false
  try {
    const runs = await ask('/runs?limit=10')
    // A later look may have been answered before.
    if (own !== looks) return
    show(runs)
    isOver = !runs.some(isOpen)
  } catch (error) {
    if (own !== looks) return
    status.textContent = error.message
  }
  if (!isOver && !document.hidden) timer = setTimeout(look, interval)
}

function show(runs) {
  const hadFocus = list.contains(document.activeElement)
  const items = runs.map((run) => {
    const item = document.getElementById(`run-${run.id}`) ?? newItem(run)
    update(item, run)
    return item
  })
  for (const item of [...list.children]) if (!items.includes(item)) item.remove()
  // Moved only where the order has changed, as what is moved loses the focus.
  for (const [index, item] of items.entries()) {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null)
  }
  if (hadFocus && !list.contains(document.activeElement)) document.getElementById('runs-heading').focus()
}

function newItem({ id }) {
  const item = element('li', { id: `run-${id}` })
  item.append(element('h3'), element('p', { className: 'progress' }), element('p', { className: 'actions' }))
  return item
}

function update(item, run) {
  const [heading, progress, actions] = item.children
  const name = nameOf(run)
  setText(heading, name)
  setText(progress, progressOf(run))
  const before = told.get(run.id)
  if (before === run.state) return
  told.set(run.id, run.state)
  // What was there when the page was opened is no news.
  if (before !== undefined || isOpen(run))
    status.textContent = `${name}: ${isOpen(run) ? run.state : progressOf(run)}`
  // While it is open they are the same.
  if (before === undefined || !isOpen(run)) replaceActions(actions, actionsOf(run, name))
}

function replaceActions(actions, replacements) {
  const hadFocus = actions.contains(document.activeElement)
  actions.replaceChildren(...replacements)
  if (hadFocus) actions.firstElementChild.focus()
}

function actionsOf(run, name) {
  const { id, result } = run
  if (isOpen(run)) return [button('Cancel', 'POST', `/runs/${id}/cancel`, name)]
  const remove = button('Delete', 'DELETE', `/runs/${id}`, name)
  if (result === null) return [remove]
  const link = element('a', { href: result.href, textContent: 'Download' })
  link.setAttribute('aria-label', `Download ${name}`)
  return [link, remove]
}

function button(text, method, url, name) {
  const made = element('button', { type: 'button', textContent: text })
  made.setAttribute('aria-label', `${text} ${name}`)
  Object.assign(made.dataset, { method, url })
  return made
}

function nameOf({ report, parameters }) {
  return [report, ...Object.entries(parameters).map(([name, value]) => `${name} ${value}`)].join(', ')
}

function progressOf({ state, progress: { rows, bytes }, error }) {
  const reason = error === null || state === 'cancelled' ? '' : `: ${error.message}`
  if (state === 'queued') return state
  return `${state}${reason}, ${rows.toLocaleString('en')} rows, ${bytes.toLocaleString('en')} bytes`
}

function isOpen({ state }) {
  return state === 'queued' || state === 'running'
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties)
}

look()
