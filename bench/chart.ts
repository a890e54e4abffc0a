import { Picture } from './svg.ts'

/** The chart of docs/performance.md. */

export interface Figures {
  rates: { shape: string; way: string; rowsPerSecond: number }[]
  /** Peaks of a server's memory. */
  peaks: { way: string; rows: number; bytes: number }[]
}

interface Theme {
  ground: string
  text: string
  faint: string
  line: string
  ours: string
  others: string
  buffered: string
}

const themes: Record<string, Theme> = {
  light: {
    ground: '#ffffff',
    text: '#1f2328',
    faint: '#59636e',
    line: '#d1d9e0',
    ours: '#0969da',
    others: '#afb8c1',
    buffered: '#bc4c00'
  },
  dark: {
    ground: '#0d1117',
    text: '#f0f6fc',
    faint: '#9198a1',
    line: '#3d444d',
    ours: '#4493f8',
    others: '#6e7681',
    buffered: '#f0883e'
  }
}

/** Ways that the chart names, in their order. Ready bytes would dwarf all of them. */
const names = new Map([
  ['reply.csv', 'reply.csv'],
  ['reply.csv, rows in batches', 'reply.csv, batches'],
  ['the usual pipeline', 'usual pipeline'],
  ['csv-stringify, batches joined', 'csv-stringify, batches'],
  ['fast-csv', 'fast-csv'],
  ['papaparse', 'papaparse'],
  ['@json2csv/node', '@json2csv/node'],
  ['Go, encoding/csv and net/http', 'Go, encoding/csv'],
  ['Django under gunicorn', 'Django']
])

const width = 840
const margin = 20
const gap = 30
const panelWidth = (width - 2 * margin - gap) / 2
const barHeight = 20
const labelWidth = 152
const valueWidth = 62
const plot = { left: margin + 60, right: width - margin - 82, height: 200 }

/** Files by their names; none without figures. */
export function charts(figures: Figures, machine: string): Map<string, string> {
  if (figures.rates.length === 0 && figures.peaks.length === 0) return new Map()
  return new Map(
    Object.entries(themes).map(([name, theme]) => [
      `performance-${name}.svg`,
      new Chart(theme).draw(figures, machine)
    ])
  )
}

class Chart {
  readonly #theme: Theme
  readonly #picture = new Picture(width)

  constructor(theme: Theme) {
    this.#theme = theme
  }

  draw({ rates, peaks }: Figures, machine: string): string {
    const { ours, others, buffered, faint, ground } = this.#theme
    let y = margin
    if (rates.length > 0) {
      this.#heading(y, 'Rows per second: more is better', 'each shape has its own scale', [
        [ours, 'fastify-csv-export'],
        [others, 'other ways']
      ])
      y = this.#rates(y + 56, rates) + 24
    }
    if (peaks.length > 0) {
      this.#heading(y, 'Peak memory of the server: less is better', 'MB, over the rows of one export', [
        [ours, 'reply.csv(): rows go out as they come'],
        [buffered, 'rows kept, then csv-stringify/sync and reply.send()']
      ])
      y = this.#peaks(y + 66, peaks)
    }
    this.#picture.text(margin, y + 24, `npm run bench:table on ${machine}`, faint, { size: 11 })
    return this.#picture.document(
      y + 40,
      ground,
      'Rows per second of each way to export CSV, and peak memory over rows'
    )
  }

  #heading(y: number, title: string, about: string, legend: [color: string, name: string][]): void {
    const { text, faint } = this.#theme
    this.#picture.text(margin, y + 16, title, text, { size: 17, weight: 600 })
    this.#picture.text(width - margin, y + 16, about, faint, { anchor: 'end' })
    let x = margin
    for (const [color, name] of legend) {
      this.#picture.rectangle(x, y + 31, 12, 12, color)
      this.#picture.text(x + 18, y + 42, name, text)
      x += 48 + name.length * 7
    }
  }

  /** @returns where it ends */
  #rates(top: number, rates: Figures['rates']): number {
    const named = rates.filter(({ way }) => names.has(way))
    let [y, end] = [top, top]
    Object.entries(Object.groupBy(named, ({ shape }) => shape)).forEach(([shape, bars = []], index) => {
      if (index % 2 === 0) y = end
      end = Math.max(end, this.#bars(margin + (index % 2) * (panelWidth + gap), y, shape, bars))
    })
    return end
  }

  #bars(x: number, top: number, shape: string, bars: Figures['rates']): number {
    const { ours, others, text } = this.#theme
    const order = [...names.keys()]
    const most = Math.max(...bars.map(({ rowsPerSecond }) => rowsPerSecond))
    this.#picture.text(x, top + 24, shape, text, { size: 14, weight: 600 })
    let y = top + 34
    for (const { way, rowsPerSecond } of bars.toSorted(
      (a, b) => order.indexOf(a.way) - order.indexOf(b.way)
    )) {
      const length = (rowsPerSecond / most) * (panelWidth - labelWidth - valueWidth)
      this.#picture.text(x + labelWidth - 8, y + 13, names.get(way) as string, text, { anchor: 'end' })
      this.#picture.rectangle(x + labelWidth, y + 2, length, barHeight - 5, isOurs(way) ? ours : others)
      this.#picture.text(x + labelWidth + length + 6, y + 13, short(rowsPerSecond), text)
      y += barHeight
    }
    return y + 6
  }

  /** @returns where it ends */
  #peaks(top: number, peaks: Figures['peaks']): number {
    const { ours, buffered, text } = this.#theme
    const most = Math.max(...peaks.map(({ bytes }) => bytes / 1e6))
    const step = stepOf(most)
    const [mostRows, mostMegabytes] = [
      Math.max(...peaks.map(({ rows }) => rows)),
      step * Math.ceil(most / step)
    ]
    const place = (rows: number, megabytes: number): readonly [x: number, y: number] => [
      plot.left + (rows / mostRows) * (plot.right - plot.left),
      top + plot.height * (1 - megabytes / mostMegabytes)
    ]
    this.#grid(place, [...new Set([0, ...peaks.map(({ rows }) => rows)])], mostMegabytes, step)
    for (const [way, points = []] of Object.entries(Object.groupBy(peaks, ({ way }) => way))) {
      const places = points.map(({ rows, bytes }) => place(rows, bytes / 1e6))
      this.#picture.line(places, isOurs(way) ? ours : buffered, 2.5)
      const [x, y] = places.at(-1) as readonly [number, number]
      const megabytes = Math.round((points.at(-1)?.bytes as number) / 1e6)
      this.#picture.text(x + 10, y + 4, `${megabytes} MB`, text, { weight: 600 })
    }
    return top + plot.height + 22
  }

  #grid(
    place: (rows: number, megabytes: number) => readonly [x: number, y: number],
    rows: number[],
    mostMegabytes: number,
    step: number
  ): void {
    const { faint, line } = this.#theme
    for (let megabytes = 0; megabytes <= mostMegabytes; megabytes += step) {
      const [x, y] = place(0, megabytes)
      this.#picture.line(
        [
          [x, y],
          [plot.right, y]
        ],
        line,
        1
      )
      this.#picture.text(x - 8, y + 4, `${megabytes} MB`, faint, { anchor: 'end' })
    }
    for (const count of rows) {
      const [x, y] = place(count, 0)
      const label = count === 0 ? '0 rows' : count.toLocaleString('en')
      this.#picture.text(x, y + 20, label, faint, { anchor: 'middle' })
    }
  }
}

const isOurs = (way: string): boolean => way.startsWith('reply.csv')

/** Between two lines of the grid; round, and at most six of them. */
function stepOf(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most))
  return [0.2, 0.25, 0.5, 1].map((part) => part * power).find((step) => most / step <= 6) ?? 2 * power
}

const short = (rate: number): string =>
  rate >= 1e6 ? `${(rate / 1e6).toFixed(2)} M` : `${Math.round(rate / 1000)} k`
