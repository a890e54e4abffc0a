import t from 'tap'
import { connect, startDatabase } from '../database.ts'
import { checkParameters, things } from '../plugins/pg/parameter-sets.ts'
import { openPool } from '../plugins/pg/pools.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(900_000))

/** `PARAMETERS_SEED` repeats a set that failed, and those after it. */
const seed = Number(process.env.PARAMETERS_SEED ?? Math.floor(Math.random() * 2 ** 31))

t.test('random parameters are the same cells in a COPY and in a cursor, or the same error', async (t) => {
  const url = await startDatabase(t, { rows: 0 })
  await (await connect(t, url)).query(things)
  await checkParameters(t, openPool(t, url), { sets: scaled(10_000), seed })
})
