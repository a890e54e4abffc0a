import 'reflect-metadata'
import { setTimeout } from 'node:timers/promises'
import { Controller, Get, Injectable, Module, Res } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import type { FastifyReply } from 'fastify'
import csvExport from 'fastify-csv-export'

@Injectable()
class Measurements {
  async *all(signal: AbortSignal) {
    for (let second = 1; second <= 5; second++) {
      yield { second, degrees: 20 + Math.random() }
      await setTimeout(1000, undefined, { signal })
    }
  }
}

@Controller()
class ExportController {
  constructor(private readonly measurements: Measurements) {}

  // With @Res() the reply is the plugin's to send, and nothing is returned.
  @Get('measurements.csv')
  export(@Res() reply: FastifyReply): void {
    reply.csv(({ signal }) => this.measurements.all(signal), { filename: 'measurements.csv' })
  }
}

@Module({ controllers: [ExportController], providers: [Measurements] })
class AppModule {}

async function start(): Promise<void> {
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter())
  await app.register(csvExport)
  app.enableShutdownHooks()
  await app.listen(process.argv[2] ?? 3000)
  console.log(await app.getUrl())
}

start()
