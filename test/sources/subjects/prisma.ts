import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from '../prisma/client/client.ts'
import { prismaRows } from '../recipes/prisma.ts'
import type { Subject } from '../subject.ts'

const open = (url: string) => new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 3 }) })

export const prisma: Subject = {
  name: 'Prisma',
  packages: ['@prisma/client'],
  engine: 'PostgreSQL',
  traps: ['waiting'],
  trap: 'no streams, no way to cancel',
  limits: ['waiting'],
  recipe(url) {
    const client = open(url)
    return {
      rows: (view, { signal }) => prismaRows(client[view] as any, 'n', {}, signal),
      close: () => client.$disconnect()
    }
  },
  documented(url) {
    const client = open(url)
    return { rows: (view) => (client[view] as any).findMany(), close: () => client.$disconnect() }
  }
}
