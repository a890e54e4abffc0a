import { DataTypes, Sequelize } from 'sequelize'
import { sequelizeRows } from '../recipes/sequelize.ts'
import type { Subject, View } from '../subject.ts'

function open(url: string) {
  const sequelize = new Sequelize(url, { logging: false, pool: { max: 3 } })
  const model = (view: View) =>
    sequelize.define(
      view,
      { n: { type: DataTypes.INTEGER, primaryKey: true }, text: DataTypes.TEXT },
      { tableName: view, timestamps: false }
    )
  return { sequelize, model }
}

export const sequelizeOrm: Subject = {
  name: 'Sequelize',
  packages: ['sequelize'],
  engine: 'PostgreSQL',
  traps: ['waiting'],
  trap: 'no streams, no way to cancel',
  limits: ['waiting'],
  recipe(url) {
    const { sequelize, model } = open(url)
    return {
      rows: (view, { signal }) => sequelizeRows(model(view), 'n', {}, signal),
      close: () => sequelize.close()
    }
  },
  documented(url) {
    const { sequelize, model } = open(url)
    return { rows: (view) => model(view).findAll({ raw: true }), close: () => sequelize.close() }
  }
}
