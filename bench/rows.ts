/** Ten columns of the kinds that reports are made of, the same at every run. */
export async function* mixedRows(count: number): AsyncGenerator<Record<string, unknown>> {
  for (let number = 0; number < count; number++) {
    yield {
      id: number,
      name: `Customer ${number}`,
      email: `customer.${number}@example.com`,
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
