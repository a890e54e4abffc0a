// reply.csv(({ signal }) => sequelizeRows(User, 'id', { attributes: ['id', 'name'], where: { active: true } }, signal))
import { type FindOptions, type ModelStatic, Op } from 'sequelize'
import { keysetPages } from '../../../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

/** @param key a unique column without NULL */
export function sequelizeRows(
  model: ModelStatic<any>,
  key: string,
  options: FindOptions,
  signal: AbortSignal
) {
  return keysetPages(
    ({ after, upTo, limit }) =>
      model.findAll({
        ...options,
        where: {
          [Op.and]: [
            options.where ?? {},
            { [key]: { [Op.lte]: upTo } },
            ...(after === undefined ? [] : [{ [key]: { [Op.gt]: after } }])
          ]
        },
        order: [[key, 'ASC']],
        limit,
        raw: true
      }),
    { key, bound: async () => (await model.max(key)) ?? null, signal }
  )
}
