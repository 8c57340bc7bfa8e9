#include "broker/handlers/topic_admin_handlers.h"

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/text.h"
#include "common/remoting/bodies/kv_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

constexpr int32_t kQueuesMax = 65'536;
constexpr int32_t kPermMax = remoting::perm::kRead | remoting::perm::kWrite | remoting::perm::kInherit;
constexpr std::array<std::string_view, 4> kAttributeNames = {"message.type", "queue.type", "cleanup.policy",
                                                             "reserve.time"};

std::string wrong_in(const remoting::TopicConfig& config) {
  auto queues = [](const char* name, int32_t count) {
    return std::string(name) + " is " + std::to_string(count) + ", not from 1 to " + std::to_string(kQueuesMax);
  };
  if (config.read_queue_nums < 1 || config.read_queue_nums > kQueuesMax)
    return queues("readQueueNums", config.read_queue_nums);
  if (config.write_queue_nums < 1 || config.write_queue_nums > kQueuesMax)
    return queues("writeQueueNums", config.write_queue_nums);
  if (config.perm < 0 || config.perm > kPermMax)
    return "perm is " + std::to_string(config.perm) + ", not from 0 to " + std::to_string(kPermMax);
  return {};
}

// "+name=value,-name" as a map with the signs kept in the names.
Result<std::map<std::string, std::string>> parse_attributes(const std::string& text) {
  std::map<std::string, std::string> attributes;
  if (trim(text).empty()) return attributes;
  for (std::string_view part : split(text, ",")) {
    size_t equals = part.find('=');
    std::string name(part.substr(0, equals));
    std::string value(equals == std::string_view::npos ? std::string_view() : part.substr(equals + 1));
    bool adds = !name.empty() && name[0] == '+', removes = !name.empty() && name[0] == '-';
    if ((!adds && !removes) || (adds && (equals == std::string_view::npos || value.empty())))
      return Error{Errc::kInvalidArgument,
                   "the header field attributes holds neither +name=value nor -name: " + std::string(part)};
    attributes[std::move(name)] = std::move(value);
  }
  return attributes;
}

}  // namespace

Status TopicAdminHandlers::check(const remoting::TopicConfig& config) const {
  APOGEE_TRY(check_topic_name(config.topic_name));
  if (parts_.topics.is_system_topic(config.topic_name))
    return Error{Errc::kInvalidArgument, "The topic[" + config.topic_name + "] is conflict with system topic."};
  if (auto wrong = wrong_in(config); !wrong.empty())
    return Error{Errc::kInvalidArgument, "topic " + config.topic_name + ": " + wrong};
  return {};
}

// The attributes of a request are changes ("+name" sets, "-name" removes) to those that the topic has.
Status TopicAdminHandlers::merge_attributes(remoting::TopicConfig& config) const {
  std::map<std::string, std::string> merged;
  if (auto existing = parts_.topics.find(config.topic_name)) merged = existing->attributes;
  for (const auto& [signed_name, value] : config.attributes) {
    const char sign = signed_name.empty() ? ' ' : signed_name[0];
    const std::string name = sign == '+' || sign == '-' ? signed_name.substr(1) : signed_name;
    if (std::find(kAttributeNames.begin(), kAttributeNames.end(), name) == kAttributeNames.end())
      return Error{Errc::kInvalidArgument, "attributes: there is no attribute " + name};
    if (sign == '-') {
      merged.erase(name);
    } else {
      if (name == "queue.type" && value != "SimpleCQ")
        return Error{Errc::kInvalidArgument, "attributes: queue.type " + value + " is not supported, only SimpleCQ"};
      if (name == "cleanup.policy" && value != "DELETE")
        return Error{Errc::kInvalidArgument, "attributes: cleanup.policy " + value + " is not supported, only DELETE"};
      merged[name] = value;
    }
  }
  config.attributes = std::move(merged);
  return {};
}

void TopicAdminHandlers::update_topic(const remoting::Caller& caller, remoting::Command request,
                                      remoting::Responder respond) {
  RequestFields fields(request);
  remoting::TopicConfig config;
  config.topic_name = fields.text("topic");
  (void)fields.text("defaultTopic");
  config.read_queue_nums = fields.i32("readQueueNums");
  config.write_queue_nums = fields.i32("writeQueueNums");
  config.perm = fields.i32("perm");
  const std::string filter_type = fields.text("topicFilterType");
  config.topic_sys_flag = fields.i32_or("topicSysFlag", 0);
  config.order = fields.boolean("order");
  if (filter_type != "SINGLE_TAG" && filter_type != "MULTI_TAG")
    fields.reject("the header field topicFilterType is neither SINGLE_TAG nor MULTI_TAG: " + filter_type);
  auto attributes = parse_attributes(fields.text_or("attributes", ""));
  if (!attributes) fields.reject(attributes.error().message);
  if (!fields.ok()) return refuse(request, respond, fields);
  config.topic_filter_type = remoting::topic_filter_type_from_name(filter_type);
  config.attributes = std::move(*attributes);

  Status status = check(config);
  if (status) status = merge_attributes(config);
  if (!status) return refuse(request, respond, status.error());
  auto existing = parts_.topics.find(config.topic_name);
  if (existing != nullptr) config.other_members = existing->other_members;
  if (existing != nullptr && *existing == config) return accept(request, respond);
  const std::string topic = config.topic_name;
  // No thread waits for it, so that changes which come together are written together.
  const char* what = existing == nullptr ? "created" : "changed";
  request.body = {};
  parts_.topics.put_async(std::move(config), TopicTable::Until::kRegistered,
                          [&logger = parts_.logger, topic, what, address = caller.address, request = std::move(request),
                           respond = std::move(respond)](const Status& put) {
                            if (!put) return refuse(request, respond, put.error());
                            logger.info("topic {} {} by {}", topic, what, address);
                            accept(request, respond);
                          });
}

void TopicAdminHandlers::update_topic_list(const remoting::Caller& caller, remoting::Command request,
                                           remoting::Responder respond) {
  auto body = remoting::decode_create_topic_list(request.body.bytes);
  if (!body) return refuse_body(request, respond, "CreateTopicListRequestBody", body.error());
  for (auto& config : body->topic_config_list) {
    Status status = check(config);
    if (status) status = merge_attributes(config);
    if (!status) return refuse(request, respond, status.error());
  }
  request.body = {};
  if (body->topic_config_list.empty()) return accept(request, respond);
  // Shared by the changes; the last one to end answers.
  struct Answer {
    remoting::Command request;
    remoting::Responder respond;
    std::mutex mutex;
    size_t left;     // guarded by mutex
    Status outcome;  // guarded by mutex: the first failure
  };
  auto answer = std::make_shared<Answer>();
  answer->request = std::move(request);
  answer->respond = std::move(respond);
  answer->left = body->topic_config_list.size();
  for (auto& config : body->topic_config_list) {
    std::string topic = config.topic_name;
    parts_.topics.put_async(
        std::move(config), TopicTable::Until::kRegistered,
        [answer, &logger = parts_.logger, topic = std::move(topic), address = caller.address](const Status& put) {
          if (put) logger.info("topic {} created or changed by {}", topic, address);
          {
            std::lock_guard lock(answer->mutex);
            if (!put && answer->outcome) answer->outcome = put;
            if (--answer->left > 0) return;
          }
          if (!answer->outcome) return refuse(answer->request, answer->respond, answer->outcome.error());
          accept(answer->request, answer->respond);
        });
  }
}

void TopicAdminHandlers::all_topic_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  remoting::TopicConfigSerializeWrapper wrapper;
  wrapper.data_version = parts_.topics.data_version();
  const auto page = page_of(request, respond, "topicSeq", "maxTopicNum", wrapper.data_version);
  if (!page) return;
  const auto table = parts_.topics.snapshot();
  size_t seen = 0;
  for (const auto& [name, config] : *table)
    if (page->holds(seen++)) wrapper.topic_config_table[name] = *config;
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.ext.set("totalTopicNum", static_cast<int64_t>(table->size()));
  response.body = SharedBytes::from(encode(wrapper));
  respond(std::move(response));
}

void TopicAdminHandlers::delete_topic(const remoting::Caller& caller, remoting::Command request,
                                      remoting::Responder respond) {
  const auto topic = required_text(request, respond, "topic");
  if (!topic) return;
  if (Status status = check_topic_name(*topic); !status) return refuse(request, respond, status.error());
  if (parts_.topics.is_system_topic(*topic))
    return refuse(request, respond, code::kInvalidParameter,
                  "The topic[" + *topic + "] is conflict with system topic.");
  if (Status status = parts_.topics.remove(*topic); !status && status.error().code != Errc::kNotFound)
    return refuse(request, respond, status.error());
  parts_.store.delete_topic(*topic);
  parts_.offsets.remove_topic(*topic);
  parts_.stats.remove_topic(*topic);
  if (Status status = parts_.offsets.flush(true); !status) return refuse(request, respond, status.error());
  parts_.logger.info("topic {} deleted by {}", *topic, caller.address);
  accept(request, respond);
}

void TopicAdminHandlers::system_topics(const remoting::Caller& /*caller*/, remoting::Command request,
                                       remoting::Responder respond) {
  remoting::TopicList list;
  for (const auto& [name, config] : *parts_.topics.snapshot())
    if (parts_.topics.is_system_topic(name)) list.topic_list.push_back(name);
  accept(request, respond, encode(list));
}

void TopicAdminHandlers::topic_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                      remoting::Responder respond) {
  const auto topic = required_text(request, respond, "topic");
  if (!topic) return;
  auto config = parts_.topics.find(*topic);
  if (config == nullptr)
    return refuse(request, respond, code::kTopicNotExist, "No topic in this broker. topic: " + *topic);
  accept(request, respond, encode(*config));
}

}  // namespace apogee::broker
