/* Parts of the request path in C. Each function is the twin of one in Python, and says byte for byte the same.

   What is rare, and what must be an error, is left to Python: a twin that meets it starts that function with
   the same arguments and returns what it returns. So there is one place for each rule, and it is not here.

   Only CPython's stable ABI is used, as of 3.11, so that one build serves all later versions. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

/* Bytes in the making: on the stack while they are few. */

#define FEW 1024
/* Longer texts are left to Python, so that no sum of lengths below can overflow, on 32 bits either. */
#define LONGEST (1 << 24)

typedef struct {
    char *bytes;
    Py_ssize_t length, room;
    char few[FEW];
} Buffer;

/* How it went: what is left to Python is no error. */
typedef enum { DONE, LEFT, FAILED } Outcome;

#define TRY(step)                     \
    do {                              \
        Outcome tried = (step);       \
        if (tried != DONE)            \
            return tried;             \
    } while (0)

static void
start(Buffer *out)
{
    out->bytes = out->few;
    out->length = 0;
    out->room = FEW;
}

static void
end(Buffer *out)
{
    if (out->bytes != out->few)
        PyMem_Free(out->bytes);
}

static Outcome
make_room(Buffer *out, Py_ssize_t more)
{
    if (more <= out->room - out->length)
        return DONE;
    if (more > LONGEST)
        return LEFT;
    Py_ssize_t room = 2 * out->room + more;
    char *bytes = PyMem_Malloc(room);
    if (bytes == NULL)
        return LEFT; /* Python asks for less at once */
    memcpy(bytes, out->bytes, out->length);
    end(out);
    out->bytes = bytes;
    out->room = room;
    return DONE;
}

static Outcome
add(Buffer *out, const char *bytes, Py_ssize_t length)
{
    TRY(make_room(out, length));
    memcpy(out->bytes + out->length, bytes, length);
    out->length += length;
    return DONE;
}

#define ADD(out, literal) TRY(add(out, literal, sizeof(literal) - 1))

static void
put_hex(char *to, unsigned long long number, int digits)
{
    for (int digit = digits - 1; digit >= 0; digit--, number >>= 4)
        to[digit] = "0123456789abcdef"[number & 15];
}

/* What the module knows in one interpreter, which may be one of several in its process. */

typedef enum {
    JSON_LINE, ENCODE_LOG_FIELDS, DELIMITED_EACH, SAID_BY, IS_SIMPLE, BY_NAME, PARSE_TRACEPARENT, SHOWN_IDS,
    ID_HEADERS, SORT_IN, TWINS
} Twin;

static const char *const twin_names[TWINS] = {
    "json_line", "encode_log_fields", "delimited_each", "said_by", "is_simple", "by_name", "parse_traceparent",
    "shown_ids", "id_headers", "sort_in"
};

/* What stands on every line; the first is its time. */
#define STANDARD 8
static const char *const standard_names[STANDARD] = {
    "timestamp", "level", "logger", "message", "service", "trace_id", "span_id", "correlation_id"
};
#define is_hexadecimal(standard) ((standard) == 5 || (standard) == 6)

/* Where a record has one of these, it has more than the fields that its caller added. */
#define CAUSES 3
static const char *const cause_names[CAUSES] = {"exc_info", "exc_text", "stack_info"};

/* Objects alone, each NULL or owned. */
typedef struct {
    PyObject *in_python[TWINS];                            /* what each twin leaves to */
    PyObject *own_names, *not_fields, *plain_record;       /* what `said_by` is told */
    PyObject *causes[CAUSES];                              /* the names above, as keys */
    PyObject *message, *arguments, *given_fields;          /* more keys */
    PyObject *half;                                        /* the bits of half a trace id */
} State;

#define OBJECTS (sizeof(State) / sizeof(PyObject *))

static State *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* Texts and numbers, as long as they are nothing special. */

typedef struct {
    const char *bytes;
    Py_ssize_t length;
} Text;

static Outcome
read_text(PyObject *object, Text *text)
{
    if (object == NULL || !PyUnicode_CheckExact(object))
        return LEFT;
    text->bytes = PyUnicode_AsUTF8AndSize(object, &text->length);
    if (text->bytes != NULL)
        return text->length <= LONGEST / 8 ? DONE : LEFT;
    PyErr_Clear(); /* a lone surrogate */
    return LEFT;
}

static Outcome
read_ascii(PyObject *object, Text *text)
{
    TRY(read_text(object, text));
    return text->length == PyUnicode_GetLength(object) ? DONE : LEFT;
}

static Outcome
read_signed(PyObject *object, long long *number)
{
    int overflow;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return overflow ? LEFT : DONE;
}

static Outcome
read_unsigned(PyObject *object, unsigned long long *number)
{
    if (!PyLong_CheckExact(object))
        return LEFT;
    *number = PyLong_AsUnsignedLongLong(object);
    if (!PyErr_Occurred())
        return DONE;
    PyErr_Clear(); /* negative, or too large */
    return LEFT;
}

/* Read trace flags, which are numbers of a type of their own. */
static Outcome
read_flags(PyObject *object, unsigned long long most, unsigned long long *flags)
{
    if (!PyLong_Check(object))
        return LEFT;
    *flags = PyLong_AsUnsignedLongLong(object);
    if (!PyErr_Occurred())
        return *flags <= most ? DONE : LEFT;
    PyErr_Clear();
    return LEFT;
}

/* Read both halves of a trace id. */
static Outcome
read_trace_id(const State *state, PyObject *object, unsigned long long *high, unsigned long long *low)
{
    if (!PyLong_CheckExact(object))
        return LEFT;
    PyObject *upper = PyNumber_Rshift(object, state->half);
    if (upper == NULL)
        return FAILED;
    Outcome outcome = read_unsigned(upper, high);
    Py_DECREF(upper);
    *low = PyLong_AsUnsignedLongLongMask(object);
    return outcome;
}

/* Find the value of a key that is a text; a key of others may raise when it is compared. */
static Outcome
find(PyObject *dictionary, PyObject *key, PyObject **value)
{
    *value = PyDict_GetItemWithError(dictionary, key);
    if (*value != NULL || !PyErr_Occurred())
        return DONE;
    PyErr_Clear();
    return LEFT;
}

/* Let Python do what a twin leaves. */
static PyObject *
leave(const State *state, Twin twin, PyObject *const *args, Py_ssize_t count)
{
    if (state->in_python[twin] == NULL)
        return PyErr_Format(PyExc_RuntimeError, "nobody has said what %s leaves", twin_names[twin]);
    PyObject *all = PyTuple_New(count);
    if (all == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(all, i, args[i]);
    }
    PyObject *result = PyObject_CallObject(state->in_python[twin], all);
    Py_DECREF(all);
    return result;
}

/* One line of JSON. */

static void
put_escaped(char **to, unsigned int unit)
{
    memcpy(*to, "\\u", 2);
    put_hex(*to + 2, unit, 4);
    *to += 6;
}

/* Read a letter of UTF-8 that is more than one byte. */
static unsigned int
read_letter(const unsigned char **from)
{
    const unsigned char *at = *from;
    int more = at[0] >= 0xf0 ? 3 : at[0] >= 0xe0 ? 2 : 1;
    unsigned int letter = at[0] & (0x3f >> more);
    for (int i = 1; i <= more; i++)
        letter = letter << 6 | (at[i] & 0x3f);
    *from = at + more + 1;
    return letter;
}

static const char controls[] = "\n\r\t\b\f", names_of_controls[] = "nrtbf";

static Outcome
add_quoted(Buffer *out, PyObject *object)
{
    Text text;
    TRY(read_text(object, &text));
    TRY(make_room(out, 6 * text.length + 2));
    const unsigned char *from = (const unsigned char *)text.bytes, *last = from + text.length;
    char *to = out->bytes + out->length;
    *to++ = '"';
    while (from < last) {
        unsigned int letter = *from;
        if (letter >= 0x80) {
            letter = read_letter(&from);
            if (letter >= 0x10000) {
                letter -= 0x10000;
                put_escaped(&to, 0xd800 | letter >> 10);
                letter = 0xdc00 | (letter & 0x3ff);
            }
            put_escaped(&to, letter);
            continue;
        }
        from++;
        const char *named = letter >= ' ' ? NULL : memchr(controls, (int)letter, sizeof controls - 1);
        if (letter == '"' || letter == '\\' || named != NULL) {
            *to++ = '\\';
            *to++ = named == NULL ? (char)letter : names_of_controls[named - controls];
        }
        else if (letter < ' ' || letter == 127)
            put_escaped(&to, letter);
        else
            *to++ = (char)letter;
    }
    *to++ = '"';
    out->length = to - out->bytes;
    return DONE;
}

static Outcome
add_unescaped(Buffer *out, PyObject *object)
{
    Text text;
    TRY(read_text(object, &text));
    ADD(out, "\"");
    TRY(add(out, text.bytes, text.length));
    ADD(out, "\"");
    return DONE;
}

static Outcome
add_number(Buffer *out, long long number)
{
    char digits[24], *last = digits + sizeof digits, *to = last;
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    do
        *--to = '0' + (char)(rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--to = '-';
    return add(out, to, last - to);
}

static Outcome
add_float(Buffer *out, double number)
{
    if (number - number != 0) /* JSON has neither infinities nor NaN */
        return LEFT;
    char *text = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL)
        return FAILED;
    Outcome outcome = add(out, text, strlen(text));
    PyMem_Free(text);
    return outcome;
}

static Outcome
add_json(Buffer *out, PyObject *value)
{
    if (PyUnicode_CheckExact(value))
        return add_quoted(out, value);
    if (PyLong_CheckExact(value)) {
        long long number;
        TRY(read_signed(value, &number));
        return add_number(out, number);
    }
    if (PyFloat_CheckExact(value))
        return add_float(out, PyFloat_AsDouble(value));
    if (value == Py_True)
        ADD(out, "true");
    else if (value == Py_False)
        ADD(out, "false");
    else if (value == Py_None)
        ADD(out, "null");
    else
        return LEFT;
    return DONE;
}

static void
put_digits(char *to, int count, long long number)
{
    for (int digit = count - 1; digit >= 0; digit--, number /= 10)
        to[digit] = '0' + (char)(number % 10);
}

/* https://howardhinnant.github.io/date_algorithms.html#civil_from_days */
static void
put_date(char *to, long long days)
{
    days += 719468;
    long long era = days / 146097, of_era = days % 146097;
    long long year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    long long of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    long long month_from_march = (5 * of_year + 2) / 153;
    long long month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    memcpy(to, "0000-00-00", 10);
    put_digits(to, 4, 400 * era + year_of_era + (month <= 2));
    put_digits(to + 5, 2, month);
    put_digits(to + 8, 2, of_year - (153 * month_from_march + 2) / 5 + 1);
}

static Outcome
add_time(Buffer *out, PyObject *seconds)
{
    if (seconds == NULL || !PyFloat_CheckExact(seconds))
        return LEFT;
    double micros = PyFloat_AsDouble(seconds) * 1e6;
    if (!(micros >= 0 && micros < 253402300799e6)) /* the year 10000 */
        return LEFT;
    long long all = (long long)micros;
    double rest = micros - (double)all;
    all += rest > 0.5 || (rest == 0.5 && all % 2); /* to the even one, as `round` does */
    long long second = all / 1000000;
    char text[] = "0000-00-00T00:00:00.000000Z";
    put_date(text, second / 86400);
    put_digits(text + 11, 2, second / 3600 % 24);
    put_digits(text + 14, 2, second / 60 % 60);
    put_digits(text + 17, 2, second % 60);
    put_digits(text + 20, 6, all % 1000000);
    return add(out, text, sizeof text - 1);
}

static Outcome
add_line(Buffer *out, PyObject *standard, PyObject *own)
{
    if (!PyTuple_CheckExact(standard) || PyTuple_Size(standard) != STANDARD || !PyDict_CheckExact(own))
        return LEFT;
    PyObject *key, *value;
    ADD(out, "{\"timestamp\": \"");
    TRY(add_time(out, PyTuple_GetItem(standard, 0)));
    ADD(out, "\"");
    for (int i = 1; i < STANDARD; i++) {
        ADD(out, ", \"");
        TRY(add(out, standard_names[i], strlen(standard_names[i])));
        ADD(out, "\": ");
        value = PyTuple_GetItem(standard, i);
        TRY(is_hexadecimal(i) ? add_unescaped(out, value) : add_quoted(out, value));
    }
    for (Py_ssize_t position = 0; PyDict_Next(own, &position, &key, &value);) {
        ADD(out, ", ");
        TRY(add_quoted(out, key));
        ADD(out, ": ");
        TRY(add_json(out, value));
    }
    ADD(out, "}");
    return DONE;
}

static PyObject *
json_line(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Buffer out;
    start(&out);
    Outcome outcome = count == 2 ? add_line(&out, args[0], args[1]) : LEFT;
    PyObject *line = outcome == DONE ? PyUnicode_FromStringAndSize(out.bytes, out.length) : NULL;
    end(&out);
    return outcome == LEFT ? leave(state_of(module), JSON_LINE, args, count) : line;
}

/* Say whether an object is a tuple, or of another type that is walked through as one. */
static int
is_walked_as_tuple(PyObject *object)
{
    return PyTuple_Check(object) &&
           PyType_GetSlot(Py_TYPE(object), Py_tp_iter) == PyType_GetSlot(&PyTuple_Type, Py_tp_iter);
}

/* One log record of OTLP: opentelemetry/proto/logs/v1/logs.proto and common/v1/common.proto. */

static int
varint_size(unsigned long long number)
{
    int size = 1;
    while (number >>= 7)
        size++;
    return size;
}

static char *
put_varint(char *to, unsigned long long number)
{
    for (; number >= 0x80; number >>= 7)
        *to++ = (char)(number | 0x80);
    *to++ = (char)number;
    return to;
}

static char *
put_fixed(char *to, unsigned long long number, int size)
{
    for (; size > 0; size--, number >>= 8)
        *to++ = (char)number;
    return to;
}

static char *
put_big_endian(char *to, unsigned long long number)
{
    for (int byte = 7; byte >= 0; byte--, number >>= 8)
        to[byte] = (char)number;
    return to + 8;
}

static char *
put_text(char *to, char tag, const Text *text)
{
    *to++ = tag;
    to = put_varint(to, text->length);
    memcpy(to, text->bytes, text->length);
    return to + text->length;
}

static Py_ssize_t
text_size(const Text *text)
{
    return 1 + varint_size(text->length) + text->length;
}

/* A value as `AnyValue` has it: a text behind its head, or the head alone. */
typedef struct {
    char head[16];
    Py_ssize_t head_size;
    Text text;
} Value;

static Outcome
read_value(PyObject *object, Value *value)
{
    char *to = value->head;
    value->text = (Text){"", 0};
    if (PyUnicode_CheckExact(object)) {
        TRY(read_text(object, &value->text));
        *to++ = 0x0a;
        to = put_varint(to, value->text.length);
    }
    else if (PyLong_CheckExact(object)) {
        long long number;
        TRY(read_signed(object, &number));
        *to++ = 0x18;
        to = put_varint(to, (unsigned long long)number);
    }
    else if (PyBool_Check(object)) {
        *to++ = 0x10;
        *to++ = object == Py_True;
    }
    else if (PyFloat_CheckExact(object)) {
        double number = PyFloat_AsDouble(object);
        unsigned long long bits;
        memcpy(&bits, &number, sizeof bits);
        *to++ = 0x21;
        to = put_fixed(to, bits, 8);
    }
    else
        return LEFT;
    value->head_size = to - value->head;
    return DONE;
}

static char *
put_value(char *to, char tag, const Value *value)
{
    *to++ = tag;
    to = put_varint(to, value->head_size + value->text.length);
    memcpy(to, value->head, value->head_size);
    memcpy(to + value->head_size, value->text.bytes, value->text.length);
    return to + value->head_size + value->text.length;
}

static Outcome
add_attribute(Buffer *out, PyObject *name, PyObject *object)
{
    Text key;
    Value value;
    TRY(read_text(name, &key));
    TRY(read_value(object, &value));
    Py_ssize_t value_size = value.head_size + value.text.length;
    Py_ssize_t pair_size = text_size(&key) + 1 + varint_size(value_size) + value_size;
    TRY(make_room(out, 11 + pair_size));
    char *to = out->bytes + out->length;
    *to++ = 0x32;
    to = put_varint(to, pair_size);
    to = put_text(to, 0x0a, &key);
    to = put_value(to, 0x12, &value);
    out->length = to - out->bytes;
    return DONE;
}

static Outcome
read_time(PyObject *object, unsigned long long *nanos)
{
    *nanos = 0;
    return object == Py_None ? DONE : read_unsigned(object, nanos);
}

static Outcome
add_record(Buffer *out, const State *state, PyObject *const *args)
{
    unsigned long long made, observed, flags = 0, number, high = 0, low = 0, span = 0;
    PyObject *ids = args[2], *severity = args[3], *attributes = args[5];
    if (!is_walked_as_tuple(ids) || PyTuple_Size(ids) < 4 || !PyTuple_CheckExact(severity) ||
        PyTuple_Size(severity) != 2 || !PyUnicode_CheckExact(args[4]) ||
        !(attributes == Py_None || PyDict_CheckExact(attributes)))
        return LEFT;
    PyObject *trace_id = PyTuple_GetItem(ids, 0), *span_id = PyTuple_GetItem(ids, 1);
    PyObject *trace_flags = PyTuple_GetItem(ids, 3);
    PyObject *severity_text = PyTuple_GetItem(severity, 1);
    TRY(read_time(args[0], &made));
    TRY(read_time(args[1], &observed));
    TRY(read_unsigned(PyTuple_GetItem(severity, 0), &number));
    if (trace_flags != Py_None)
        TRY(read_flags(trace_flags, 0xffffffff, &flags));
    if (trace_id != Py_None)
        TRY(read_trace_id(state, trace_id, &high, &low));
    if (span_id != Py_None)
        TRY(read_unsigned(span_id, &span));
    Text level = {"", 0};
    if (severity_text != Py_None)
        TRY(read_text(severity_text, &level));
    Value body;
    TRY(read_value(args[4], &body));

    TRY(make_room(out, 128 + level.length + body.text.length));
    char *to = out->bytes;
    *to++ = 0x09;
    to = put_fixed(to, made, 8);
    *to++ = 0x59;
    to = put_fixed(to, observed, 8);
    *to++ = 0x45;
    to = put_fixed(to, flags, 4);
    *to++ = 0x10;
    to = put_varint(to, number);
    if (level.length)
        to = put_text(to, 0x1a, &level);
    to = put_value(to, 0x2a, &body);
    out->length = to - out->bytes;
    PyObject *key, *value;
    if (attributes != Py_None)
        for (Py_ssize_t position = 0; PyDict_Next(attributes, &position, &key, &value);)
            TRY(add_attribute(out, key, value));
    TRY(make_room(out, 28));
    to = out->bytes + out->length;
    if (high || low) {
        memcpy(to, "\x4a\x10", 2);
        to = put_big_endian(put_big_endian(to + 2, high), low);
    }
    if (span) {
        memcpy(to, "\x52\x08", 2);
        to = put_big_endian(to + 2, span);
    }
    out->length = to - out->bytes;
    return DONE;
}

static PyObject *
encode_log_fields(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Buffer out;
    start(&out);
    Outcome outcome = count == 6 ? add_record(&out, state_of(module), args) : LEFT;
    PyObject *record = outcome == DONE ? PyBytes_FromStringAndSize(out.bytes, out.length) : NULL;
    end(&out);
    return outcome == LEFT ? leave(state_of(module), ENCODE_LOG_FIELDS, args, count) : record;
}

/* Many records or spans, each of which stands in a field of the same kind. */

static Outcome
measure_each(const Text *tag, PyObject *bodies, Py_ssize_t *size)
{
    *size = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(bodies); i++) {
        PyObject *body = PyList_GetItem(bodies, i);
        if (!PyBytes_CheckExact(body) || PyBytes_Size(body) > LONGEST || *size > 16 * LONGEST)
            return LEFT;
        *size += tag->length + varint_size(PyBytes_Size(body)) + PyBytes_Size(body);
    }
    return DONE;
}

static PyObject *
delimited_each(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !PyList_CheckExact(args[1]))
        return leave(state_of(module), DELIMITED_EACH, args, count);
    Text tag = {PyBytes_AsString(args[0]), PyBytes_Size(args[0])};
    if (tag.length > FEW || measure_each(&tag, args[1], &size) != DONE)
        return leave(state_of(module), DELIMITED_EACH, args, count);
    PyObject *all = PyBytes_FromStringAndSize(NULL, size);
    char *to = all == NULL ? NULL : PyBytes_AsString(all);
    for (Py_ssize_t i = 0; to != NULL && i < PyList_Size(args[1]); i++) {
        PyObject *body = PyList_GetItem(args[1], i);
        memcpy(to, tag.bytes, tag.length);
        to = put_varint(to + tag.length, PyBytes_Size(body));
        memcpy(to, PyBytes_AsString(body), PyBytes_Size(body));
        to += PyBytes_Size(body);
    }
    return all;
}

/* The message of a record, and what the caller of a logger has added to it. */

static Outcome
check_field(PyObject *name, PyObject *value)
{
    Text text;
    TRY(read_text(name, &text));
    if (PyUnicode_CheckExact(value))
        return read_text(value, &text);
    if (PyLong_CheckExact(value)) {
        long long number;
        TRY(read_signed(value, &number));
        return number == PY_LLONG_MIN ? LEFT : DONE;
    }
    return PyFloat_CheckExact(value) || PyBool_Check(value) || value == Py_None ? DONE : LEFT;
}

/* See that a message is said as it is. */
static Outcome
check_message(const State *state, PyObject *record, PyObject *message)
{
    Text text;
    PyObject *arguments;
    TRY(read_text(message, &text));
    TRY(find(record, state->arguments, &arguments));
    int is_none = arguments == Py_None || (arguments != NULL && PyTuple_CheckExact(arguments) &&
                                           PyTuple_Size(arguments) == 0);
    return is_none ? DONE : LEFT;
}

static Outcome
collect_fields(const State *state, PyObject *record, PyObject *fields)
{
    PyObject *name, *value;
    TRY(find(record, state->given_fields, &value));
    if (value != NULL)
        return LEFT;
    for (int i = 0; i < CAUSES; i++) {
        TRY(find(record, state->causes[i], &value));
        if (value != NULL && value != Py_None)
            return LEFT;
    }
    Py_ssize_t own = PyList_Size(state->own_names), at = 0;
    for (Py_ssize_t position = 0; PyDict_Next(record, &position, &name, &value); at++) {
        if (at < own) {
            if (name != PyList_GetItem(state->own_names, at))
                return LEFT;
            continue;
        }
        if (!PyUnicode_CheckExact(name)) /* the hash of another type could change what is walked through */
            return LEFT;
        int is_none_of_them = PySet_Contains(state->not_fields, name);
        if (is_none_of_them < 0)
            return FAILED;
        if (is_none_of_them)
            continue;
        TRY(check_field(name, value));
        if (PyDict_SetItem(fields, name, value) < 0)
            return FAILED;
    }
    return at < own ? LEFT : DONE;
}

static Outcome
read_record(const State *state, PyObject *record, PyObject *fields, PyObject **message)
{
    /* One of another type may answer otherwise than its `__dict__` says. */
    if (state->plain_record == NULL || (PyObject *)Py_TYPE(record) != state->plain_record)
        return LEFT;
    PyObject *attributes = PyObject_GetAttrString(record, "__dict__");
    if (attributes == NULL)
        return FAILED;
    *message = NULL;
    Outcome outcome = PyDict_CheckExact(attributes) ? find(attributes, state->message, message) : LEFT;
    /* Owned from here on: a foreign key that is compared below may put another one in its place. */
    Py_XINCREF(*message);
    if (outcome == DONE)
        outcome = check_message(state, attributes, *message);
    if (outcome == DONE)
        outcome = collect_fields(state, attributes, fields);
    if (outcome != DONE)
        Py_CLEAR(*message);
    Py_DECREF(attributes);
    return outcome;
}

/* Make a tuple of what is given away to it. */
static PyObject *
pair(PyObject *first, PyObject *second)
{
    PyObject *both = first != NULL && second != NULL ? PyTuple_New(2) : NULL;
    if (both == NULL) {
        Py_XDECREF(first);
        Py_XDECREF(second);
        return NULL;
    }
    PyTuple_SetItem(both, 0, first);
    PyTuple_SetItem(both, 1, second);
    return both;
}

static PyObject *
said_by(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *message, *fields = PyDict_New();
    if (fields == NULL)
        return NULL;
    Outcome outcome = count == 1 ? read_record(state_of(module), args[0], fields, &message) : LEFT;
    if (outcome == DONE)
        return pair(message, fields);
    Py_DECREF(fields);
    return outcome == LEFT ? leave(state_of(module), SAID_BY, args, count) : NULL;
}

static PyObject *
is_simple(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 1 || !PyDict_CheckExact(args[0]))
        return leave(state_of(module), IS_SIMPLE, args, count);
    PyObject *name, *value;
    for (Py_ssize_t position = 0; PyDict_Next(args[0], &position, &name, &value);) {
        int is_named = PyUnicode_CheckExact(name) && PyUnicode_GetLength(name) > 0;
        if (!is_named || !(PyUnicode_CheckExact(value) || PyLong_CheckExact(value) ||
                           PyFloat_CheckExact(value) || PyBool_Check(value)))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

/* The ids that come with a request, and those that its response bears. */

#define OURS 3
static const char *const our_headers[OURS] = {"x-correlation-id", "x-trace-id", "traceresponse"};

static Outcome
read_hex(const char *digits, int count, unsigned long long *number)
{
    *number = 0;
    for (int i = 0; i < count; i++) {
        char digit = digits[i];
        if (digit >= '0' && digit <= '9')
            *number = *number << 4 | (digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            *number = *number << 4 | (digit - 'a' + 10);
        else
            return LEFT;
    }
    return DONE;
}

/* Read `traceparent` as it nearly always is: https://www.w3.org/TR/trace-context/#traceparent-header. */
static Outcome
read_traceparent(PyObject *header, char *trace_id, unsigned long long *span_id, unsigned long long *flags)
{
    Text text;
    unsigned long long high, low;
    if (PyBytes_CheckExact(header))
        text = (Text){PyBytes_AsString(header), PyBytes_Size(header)};
    else if (PyList_CheckExact(header) && PyList_Size(header) == 1)
        TRY(read_ascii(PyList_GetItem(header, 0), &text));
    else
        return LEFT;
    const char *at = text.bytes;
    if (text.length != 55 || memcmp(at, "00-", 3) != 0 || at[35] != '-' || at[52] != '-')
        return LEFT;
    TRY(read_hex(at + 3, 16, &high));
    TRY(read_hex(at + 19, 16, &low));
    TRY(read_hex(at + 36, 16, span_id));
    TRY(read_hex(at + 53, 2, flags));
    memcpy(trace_id, at + 3, 32);
    trace_id[32] = 0;
    return (high || low) && *span_id ? DONE : LEFT;
}

/* Index one header, as it nearly always is: by a name in lower case that no other has. */
static Outcome
index_header(PyObject *index, PyObject *pair)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2 || !PyBytes_CheckExact(PyTuple_GetItem(pair, 0)))
        return LEFT;
    PyObject *name = PyTuple_GetItem(pair, 0);
    const char *letters = PyBytes_AsString(name);
    for (Py_ssize_t i = 0; i < PyBytes_Size(name); i++)
        if (letters[i] >= 'A' && letters[i] <= 'Z')
            return LEFT;
    return PyDict_SetItem(index, name, PyTuple_GetItem(pair, 1)) < 0 ? FAILED : DONE;
}

static Outcome
index_headers(PyObject *index, PyObject *headers)
{
    if (!PyList_CheckExact(headers))
        return LEFT;
    for (Py_ssize_t i = 0; i < PyList_Size(headers); i++)
        TRY(index_header(index, PyList_GetItem(headers, i)));
    return PyDict_Size(index) == PyList_Size(headers) ? DONE : LEFT;
}

static PyObject *
by_name(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *index = PyDict_New();
    if (index == NULL)
        return NULL;
    Outcome outcome = count == 1 ? index_headers(index, args[0]) : LEFT;
    if (outcome == DONE)
        return index;
    Py_DECREF(index);
    return outcome == LEFT ? leave(state_of(module), BY_NAME, args, count) : NULL;
}

static PyObject *
parse_traceparent(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    char trace_id[33];
    unsigned long long span_id, flags;
    if (count != 1 || read_traceparent(args[0], trace_id, &span_id, &flags) != DONE)
        return leave(state_of(module), PARSE_TRACEPARENT, args, count);
    return Py_BuildValue("NKK", PyLong_FromString(trace_id, NULL, 16), span_id, flags);
}

/* Compare as HTTP does, letters of either case alike; not as a locale may have it. */
static int
is_called(PyObject *name, const char *lower)
{
    Py_ssize_t length = PyBytes_Size(name);
    const char *letters = PyBytes_AsString(name);
    if (length != (Py_ssize_t)strlen(lower))
        return 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        char letter = letters[i] >= 'A' && letters[i] <= 'Z' ? letters[i] + ('a' - 'A') : letters[i];
        if (letter != lower[i])
            return 0;
    }
    return 1;
}

/* See that an application's header, as it nearly always is, has none of our names. */
static Outcome
read_header(PyObject *header)
{
    if (!PyTuple_CheckExact(header) || PyTuple_Size(header) != 2)
        return LEFT;
    PyObject *name = PyTuple_GetItem(header, 0);
    if (!PyBytes_CheckExact(name))
        return LEFT;
    for (int i = 0; i < OURS; i++)
        if (is_called(name, our_headers[i]))
            return LEFT;
    return DONE;
}

static Outcome
read_headers(PyObject *given)
{
    if (!PyList_CheckExact(given))
        return LEFT;
    for (Py_ssize_t i = 0; i < PyList_Size(given); i++)
        TRY(read_header(PyList_GetItem(given, i)));
    return DONE;
}

typedef struct {
    unsigned long long high, low, span, flags;
} Ids;

/* Read those of a span: trace id, span id, is remote, flags, state, is valid. */
static Outcome
read_ids(const State *state, PyObject *object, Ids *ids)
{
    if (!is_walked_as_tuple(object) || PyTuple_Size(object) != 6 || PyTuple_GetItem(object, 5) != Py_True)
        return LEFT;
    TRY(read_trace_id(state, PyTuple_GetItem(object, 0), &ids->high, &ids->low));
    TRY(read_unsigned(PyTuple_GetItem(object, 1), &ids->span));
    TRY(read_flags(PyTuple_GetItem(object, 3), 0xff, &ids->flags));
    return DONE;
}

/* Say whether there is no span to which ids belong. */
static int
is_invalid(PyObject *ids)
{
    return is_walked_as_tuple(ids) && PyTuple_Size(ids) == 6 && PyTuple_GetItem(ids, 5) == Py_False;
}

/* Read the id that somebody has sent or set, if it is one. */
static Outcome
read_carried(PyObject *object, Text *carried)
{
    *carried = (Text){"", 0};
    return PyUnicode_CheckExact(object) ? read_ascii(object, carried) : object == Py_None ? DONE : LEFT;
}

static PyObject *
shown_ids(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Ids ids = {0, 0, 0, 0};
    Text carried;
    char text[48];
    int is_valid = count == 2 && read_ids(state_of(module), args[0], &ids) == DONE;
    if (count != 2 || !(is_valid || is_invalid(args[0])) || read_carried(args[1], &carried) != DONE) {
        PyErr_Clear();
        return leave(state_of(module), SHOWN_IDS, args, count);
    }
    put_hex(text, ids.high, 16);
    put_hex(text + 16, ids.low, 16);
    put_hex(text + 32, ids.span, 16);
    PyObject *trace = PyUnicode_FromStringAndSize(text, is_valid ? 32 : 0);
    PyObject *span = PyUnicode_FromStringAndSize(text + 32, is_valid ? 16 : 0);
    PyObject *identifier = carried.length ? args[1] : trace;
    PyObject *all = trace != NULL && span != NULL ? PyTuple_Pack(3, trace, span, identifier) : NULL;
    Py_XDECREF(trace);
    Py_XDECREF(span);
    return all;
}

static PyObject *
header(const char *name, const Text *value)
{
    return pair(PyBytes_FromString(name), PyBytes_FromStringAndSize(value->bytes, value->length));
}

static PyObject *
response_headers(const Ids *ids, const Text *carried)
{
    char text[] = "00-00000000000000000000000000000000-0000000000000000-00";
    put_hex(text + 3, ids->high, 16);
    put_hex(text + 19, ids->low, 16);
    put_hex(text + 36, ids->span, 16);
    put_hex(text + 53, ids->flags, 2);
    Text trace = {text + 3, 32}, whole = {text, sizeof text - 1};
    const Text *values[OURS] = {carried->length ? carried : &trace, &trace, &whole};
    PyObject *headers = PyList_New(OURS);
    for (int i = 0; headers != NULL && i < OURS; i++) {
        PyObject *each = header(our_headers[i], values[i]);
        if (each == NULL)
            Py_CLEAR(headers);
        else
            PyList_SetItem(headers, i, each);
    }
    return headers;
}

static PyObject *
id_headers(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Ids ids;
    Text carried;
    if (count == 3 && read_headers(args[0]) == DONE && read_ids(state_of(module), args[1], &ids) == DONE &&
        read_carried(args[2], &carried) == DONE)
        return response_headers(&ids, &carried);
    PyErr_Clear();
    return leave(state_of(module), ID_HEADERS, args, count);
}

/* A measurement among the numbers of a histogram, which stand as declare/layout.py says. */

enum { TOTAL, LOWEST, HIGHEST, BUCKETS };

/* Read a number that a float can hold. */
static Outcome
read_number(PyObject *object, double *number)
{
    long long whole;
    if (PyFloat_CheckExact(object)) {
        *number = PyFloat_AsDouble(object);
        return DONE;
    }
    if (!PyLong_CheckExact(object))
        return LEFT;
    TRY(read_signed(object, &whole));
    *number = (double)whole;
    return -(1LL << 53) < whole && whole < 1LL << 53 ? DONE : LEFT;
}

/* Find the first bound that is not below a value. */
static Outcome
find_bucket(double value, PyObject *bounds, Py_ssize_t *bucket)
{
    Py_ssize_t from = 0, to = PyTuple_Size(bounds);
    while (from < to) {
        Py_ssize_t middle = (from + to) / 2;
        double bound;
        TRY(read_number(PyTuple_GetItem(bounds, middle), &bound));
        if (bound < value)
            from = middle + 1;
        else
            to = middle;
    }
    *bucket = from;
    return DONE;
}

static int
put_at(PyObject *numbers, Py_ssize_t place, PyObject *number)
{
    return number == NULL ? -1 : PyList_SetItem(numbers, place, number);
}

/* Add to numbers of this process alone; those that were copied out of shared memory are all floats. */
static Outcome
add_to_list(PyObject *numbers, Py_ssize_t bucket, PyObject *measured, double value)
{
    double count, total, lowest, highest;
    Py_ssize_t place = BUCKETS + bucket;
    if (PyList_Size(numbers) <= place)
        return LEFT;
    PyObject *counted = PyList_GetItem(numbers, place);
    TRY(read_number(counted, &count));
    TRY(read_number(PyList_GetItem(numbers, TOTAL), &total));
    TRY(read_number(PyList_GetItem(numbers, LOWEST), &lowest));
    TRY(read_number(PyList_GetItem(numbers, HIGHEST), &highest));
    int is_whole = PyLong_CheckExact(counted);
    counted = is_whole ? PyLong_FromLongLong((long long)count + 1) : PyFloat_FromDouble(count + 1);
    if (put_at(numbers, place, counted) < 0 ||
        put_at(numbers, TOTAL, PyNumber_Add(PyList_GetItem(numbers, TOTAL), measured)) < 0 ||
        (value < lowest && put_at(numbers, LOWEST, Py_NewRef(measured)) < 0) ||
        (value > highest && put_at(numbers, HIGHEST, Py_NewRef(measured)) < 0))
        return FAILED;
    return DONE;
}

static Outcome
add_to_doubles(double *numbers, Py_ssize_t length, Py_ssize_t bucket, double value)
{
    if (length <= BUCKETS + bucket)
        return LEFT;
    numbers[BUCKETS + bucket] += 1;
    numbers[TOTAL] += value;
    if (value < numbers[LOWEST])
        numbers[LOWEST] = value;
    if (value > numbers[HIGHEST])
        numbers[HIGHEST] = value;
    return DONE;
}

/* Add to numbers in shared memory. */
static Outcome
add_to_view(PyObject *numbers, Py_ssize_t bucket, double value)
{
    Py_buffer view;
    if (PyObject_GetBuffer(numbers, &view, PyBUF_WRITABLE | PyBUF_FORMAT | PyBUF_ND) < 0) {
        PyErr_Clear(); /* it cannot be written, or is none any more */
        return LEFT;
    }
    int is_of_doubles = view.ndim == 1 && view.format != NULL && strcmp(view.format, "d") == 0 &&
                        (uintptr_t)view.buf % sizeof(double) == 0;
    Outcome outcome = is_of_doubles ? add_to_doubles(view.buf, view.shape[0], bucket, value) : LEFT;
    PyBuffer_Release(&view);
    return outcome;
}

static Outcome
add_measurement(PyObject *measured, PyObject *bounds, PyObject *numbers, Py_ssize_t *bucket)
{
    double value;
    if (!PyTuple_CheckExact(bounds))
        return LEFT;
    TRY(read_number(measured, &value));
    TRY(find_bucket(value, bounds, bucket));
    if (PyList_CheckExact(numbers))
        return add_to_list(numbers, *bucket, measured, value);
    return PyMemoryView_Check(numbers) ? add_to_view(numbers, *bucket, value) : LEFT;
}

static PyObject *
sort_in(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t bucket;
    Outcome outcome = count == 3 ? add_measurement(args[0], args[1], args[2], &bucket) : LEFT;
    if (outcome == LEFT)
        return leave(state_of(module), SORT_IN, args, count);
    return outcome == DONE ? PyLong_FromSsize_t(bucket) : NULL;
}

/* The module. */

static void
keep(PyObject **at, PyObject *object)
{
    PyObject *former = *at;
    *at = Py_NewRef(object);
    Py_XDECREF(former);
}

static PyObject *
leave_to(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *python, *own_names = NULL, *not_fields = NULL, *plain_record = NULL;
    State *state = state_of(module);
    if (!PyArg_ParseTuple(args, "sO|O!O!O!", &name, &python, &PyList_Type, &own_names, &PyFrozenSet_Type,
                          &not_fields, &PyType_Type, &plain_record))
        return NULL;
    if (plain_record != NULL) {
        keep(&state->own_names, own_names);
        keep(&state->not_fields, not_fields);
        keep(&state->plain_record, plain_record);
    }
    for (int twin = 0; twin < TWINS; twin++)
        if (strcmp(name, twin_names[twin]) == 0)
            keep(&state->in_python[twin], python);
    Py_RETURN_NONE;
}

#define TWIN(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef functions[] = {
    {"leave_to", leave_to, METH_VARARGS, "Say which function does what its twin leaves, and what it knows."},
    TWIN(json_line), TWIN(encode_log_fields), TWIN(delimited_each), TWIN(said_by), TWIN(is_simple),
    TWIN(by_name), TWIN(parse_traceparent), TWIN(shown_ids), TWIN(id_headers), TWIN(sort_in), {NULL, NULL, 0, NULL},
};

static int
know(PyObject *module)
{
    State *state = state_of(module);
    for (int i = 0; i < CAUSES; i++)
        if ((state->causes[i] = PyUnicode_InternFromString(cause_names[i])) == NULL)
            return -1;
    state->message = PyUnicode_InternFromString("msg");
    state->arguments = PyUnicode_InternFromString("args");
    state->given_fields = PyUnicode_InternFromString("_tercet_fields");
    state->half = PyLong_FromLong(64);
    int is_all = state->message && state->arguments && state->given_fields && state->half;
    return is_all ? 0 : -1;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    PyObject **objects = PyModule_GetState(module);
    for (size_t i = 0; objects != NULL && i < OBJECTS; i++)
        Py_VISIT(objects[i]);
    return 0;
}

static int
clear(PyObject *module)
{
    PyObject **objects = PyModule_GetState(module);
    for (size_t i = 0; objects != NULL && i < OBJECTS; i++)
        Py_CLEAR(objects[i]);
    return 0;
}

static void
forget(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, know}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "twins", "Parts of the request path in C.", sizeof(State), functions, slots,
    traverse, clear, forget,
};

PyMODINIT_FUNC
PyInit_twins(void)
{
    return PyModuleDef_Init(&definition);
}
