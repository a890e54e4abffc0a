import mysql from 'mysql2'
import { options } from '../engines/mariadb.ts'
import { mysqlRows } from '../recipes/mysql2.ts'
import type { Subject } from '../subject.ts'

const open = (url: string) => mysql.createPool({ ...options(url), connectionLimit: 3 })

export const mysql2: Subject = {
  name: 'mysql2',
  packages: ['mysql2'],
  engine: 'MariaDB',
  traps: ['killed', 'killedIdle', 'waiting'],
  trap: 'a stream that is destroyed reads on to the last row, and does not hear that the connection is lost',
  recipe(url) {
    const pool = open(url)
    return {
      rows: (view) => mysqlRows(pool, `SELECT n, text FROM ${view}`, [], options(url)),
      close: () => pool.promise().end()
    }
  },
  documented(url) {
    const pool = open(url)
    return {
      rows: (view) => pool.query(`SELECT n, text FROM ${view}`).stream(),
      close: () => pool.promise().end()
    }
  }
}
