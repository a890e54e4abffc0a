/**
 * Texts of the rows, made beforehand: what is measured is an export, not the making of strings. V8 also keeps the texts
 * of the numbers last printed, in a template too, from where they outlive young garbage collections (docs/performance.md).
 */
const customers = Array.from({ length: 1_000 }, (_, number) => ({
  name: `Customer ${number}`,
  email: `customer.${number}@example.com`
}))

/** Ten columns of the kinds that reports are made of, the same at every run. */
export async function* mixedRows(count: number): AsyncGenerator<Record<string, unknown>> {
  for (let number = 0; number < count; number++) {
    const customer = customers[number % customers.length]
    yield {
      id: number,
      name: customer?.name,
      email: customer?.email,
      age: number % 90,
      price: (number % 100_000) * 1.01,
      active: number % 2 === 0,
      note: number % 10 === 0 ? 'quoted, because "special"' : 'nothing special about it',
      country: 'Österreich',
      created: new Date(1_767_225_600_000 + number * 1000),
      closed: null
    }
  }
}
