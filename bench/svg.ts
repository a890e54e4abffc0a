/** A picture, as text of SVG. */

interface TextStyle {
  size?: number
  weight?: number
  anchor?: 'start' | 'middle' | 'end'
}

export class Picture {
  readonly #width: number
  readonly #parts: string[] = []

  constructor(width: number) {
    this.#width = width
  }

  text(x: number, y: number, text: string, fill: string, style: TextStyle = {}): void {
    const { size = 13, weight = 400, anchor = 'start' } = style
    const font = `font-size="${size}" font-weight="${weight}" text-anchor="${anchor}"`
    this.#parts.push(`<text x="${round(x)}" y="${round(y)}" fill="${fill}" ${font}>${escaped(text)}</text>`)
  }

  rectangle(x: number, y: number, width: number, height: number, fill: string): void {
    const [left, top, across, down] = [x, y, width, height].map(round)
    this.#parts.push(
      `<rect x="${left}" y="${top}" width="${across}" height="${down}" rx="2" fill="${fill}"/>`
    )
  }

  /** With a dot at each of the points, where it is wide. */
  line(points: (readonly [x: number, y: number])[], color: string, width: number): void {
    const path = points.map(([x, y]) => `${round(x)} ${round(y)}`).join('L')
    this.#parts.push(`<path d="M${path}" stroke="${color}" fill="none" stroke-width="${width}"/>`)
    if (width === 1) return
    for (const [x, y] of points) {
      this.#parts.push(`<circle cx="${round(x)}" cy="${round(y)}" r="${width * 1.5}" fill="${color}"/>`)
    }
  }

  /** @param about what those who do not see it are told */
  document(height: number, ground: string, about: string): string {
    const size = `width="${this.#width}" height="${round(height)}"`
    const font = `font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"`
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${this.#width} ${round(height)}" role="img" aria-label="${escaped(about)}" ${font}>`,
      `<rect ${size} fill="${ground}"/>`,
      ...this.#parts,
      '</svg>\n'
    ].join('\n')
  }
}

const round = (value: number): number => Math.round(value * 10) / 10

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
