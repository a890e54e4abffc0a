package main

import (
	"encoding/csv"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

type customer struct{ name, email string }

var customers = func() []customer {
	prepared := make([]customer, 1000)
	for number := range prepared {
		prepared[number] = customer{
			fmt.Sprintf("Customer %d", number),
			fmt.Sprintf("customer.%d@example.com", number),
		}
	}
	return prepared
}()

var header = []string{"id", "name", "email", "age", "price", "active", "note", "country", "created", "closed"}

var freshHeader = []string{"id", "reference", "name", "email", "age", "price", "active", "note", "city", "closed"}

type shape struct {
	header []string
	row    func(number int) []string
}

// By their names in shapes.ts.
var shapes = map[string]shape{
	"10 mixed columns":                {header, mixed},
	"10 mixed columns, fresh strings": {freshHeader, fresh},
}

func mixed(number int) []string {
	customer := customers[number%1000]
	note := "nothing special about it"
	if number%10 == 0 {
		note = `quoted, because "special"`
	}
	return []string{
		strconv.Itoa(number),
		customer.name,
		customer.email,
		strconv.Itoa(number % 90),
		strconv.FormatFloat(float64(number%100_000)*1.01, 'f', -1, 64),
		strconv.FormatBool(number%2 == 0),
		note,
		"Österreich",
		time.UnixMilli(1_767_225_600_000 + int64(number)*1000).UTC().Format("2006-01-02T15:04:05.000Z"),
		"",
	}
}

func fresh(number int) []string {
	text := strconv.Itoa(number)
	customer := strconv.Itoa(number * 7_919 % 1_000_003)
	note := "nothing special about " + text
	if number%10 == 0 {
		note = `quoted, because "special" ` + text
	}
	return []string{
		text,
		"SO-2026-" + text,
		"Customer " + customer,
		"customer." + customer + "@example.com",
		strconv.Itoa(number % 90),
		strconv.FormatFloat(float64(number%100_000)*1.01, 'f', -1, 64),
		strconv.FormatBool(number%2 == 0),
		note,
		strconv.Itoa(10_000+number%90_000) + " Österreich",
		"",
	}
}

func export(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	shape, found := shapes[query.Get("shape")]
	count, err := strconv.Atoi(query.Get("rows"))
	if err != nil || !found {
		http.Error(response, "rows and shape, please", http.StatusBadRequest)
		return
	}
	response.Header().Set("Content-Type", "text/csv; charset=utf-8")
	writer := csv.NewWriter(response)
	writer.Write(shape.header)
	for number := 0; number < count; number++ {
		if writer.Write(shape.row(number)) != nil {
			return
		}
	}
	writer.Flush()
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(export)))
}
