// reply.csv(({ signal }) => prismaRows(prisma.user, 'id', { select: { id: true, name: true } }, signal))
import { keysetPages } from '../../../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

interface Model {
  findMany(args: any): Promise<object[]>
  aggregate(args: any): Promise<any>
}

/** @param key a unique field without null, that is among those selected */
export function prismaRows(
  model: Model,
  key: string,
  args: { where?: object; select?: object },
  signal: AbortSignal
) {
  return keysetPages(
    ({ after, upTo, limit }) =>
      model.findMany({
        ...args,
        where: { AND: [args.where ?? {}, { [key]: { gt: after, lte: upTo } }] },
        orderBy: { [key]: 'asc' },
        take: limit
      }),
    { key, bound: async () => (await model.aggregate({ _max: { [key]: true } }))._max[key], signal }
  )
}
