import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import escapeHtml from 'escape-html'

/** A report that people can have made. */
export interface Choice {
  label: string
  report: string
  parameters: object
}

export interface PageOptions {
  title: string
  introduction: string[]
  lines: { route: string; about: string; path: string; pathEnd?: string; line: string }[]
  /** Without any the page has no part for runs, and no script. */
  choices: Choice[]
}

const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')
const style = read('style.css')
const script = read('runs.js')

/** Inside of the page, named by their hashes: it loads nothing, and nothing else of it runs. */
export function toPage({ title, introduction, lines, choices }: PageOptions): {
  html: string
  policy: string
} {
  const hasRuns = choices.length > 0
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${style}</style>
<h1>${title}</h1>
${introduction.map((text) => `<p>${text}</p>`).join('\n')}
${hasRuns ? toRunsPart(choices) : ''}
<h2>Routes</h2>
${lines.map(toEntry).join('\n')}
${hasRuns ? `<script>${script}</script>\n` : ''}</html>
`
  return { html, policy: toPolicy(hasRuns) }
}

function toEntry({ route, about, path, pathEnd, line }: PageOptions['lines'][number]): string {
  const heading =
    route.startsWith('GET ') && pathEnd === undefined
      ? `<a href="${escapeHtml(path)}">${escapeHtml(route)}</a>`
      : escapeHtml(route)
  return `<h3>${heading}</h3>\n<p>${escapeHtml(about)}</p>\n<pre>${escapeHtml(line)}</pre>`
}

function toRunsPart(choices: Choice[]): string {
  const options = choices.map(({ label, report, parameters }) => {
    const attributes = `data-report="${escapeHtml(report)}" data-parameters="${escapeHtml(JSON.stringify(parameters))}"`
    return `<option ${attributes}>${escapeHtml(label)}</option>`
  })
  return `<section aria-labelledby="runs-heading">
<h2 id="runs-heading" tabindex="-1">Make a report</h2>
<p>It is made in the background, whether this page stays open or not, and kept for a day. A broken download can be resumed.</p>
<noscript><p>This part needs JavaScript. The lines below do the same without.</p></noscript>
<form id="new-run">
<label for="report">Report</label>
<select id="report">${options.join('')}</select>
<button>Make it</button>
</form>
<p id="status" role="status"></p>
<ul id="runs" aria-label="Latest runs"></ul>
</section>`
}

function toPolicy(hasRuns: boolean): string {
  const directives = ["default-src 'none'", `style-src ${hashOf(style)}`]
  if (hasRuns) directives.push(`script-src ${hashOf(script)}`, "connect-src 'self'")
  const further = ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
  return [...directives, ...further, "require-trusted-types-for 'script'"].join('; ')
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}
