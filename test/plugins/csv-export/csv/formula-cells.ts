/** What may stand before a formula and change nothing. */
export const blanks =
  ' |\u00a0|\t|\r|\n|\v|\f|\0|\u0085|\u00ad|\u034f|\u1680|\u180e|\u2003|\u200b|\u200e|\u2028|\u202f|\u2060|\u3000|\u3164|\ufe0f|\ufeff|"'.split(
    '|'
  )

/** The four signs, and what some program or normalization takes for one of them. */
export const signs = [...'=+-@＝＋－＠﹦﹢﹣﹫\u2212']

export const formulas = [
  '=1+1',
  "=cmd|' /C calc'!A0",
  "+1+cmd|' /C calc'!A0",
  "-2+3+cmd|' /C calc'!A0",
  '@SUM(1+1)*cmd',
  '+1+1',
  '+1-1',
  '-1+1',
  '-1-1',
  '-(1)',
  '--5',
  '-5=5',
  '-5;=1',
  '+351 21\n=1',
  '\t-5',
  '\r\n-5',
  '+351 21 A1',
  '+1*2',
  '+12345678-90123456',
  '-5 €',
  '-Infinity',
  '+AAAA/1==',
  '＝1',
  '-５',
  '- item',
  '@handle'
]
